//! `routes.yaml` as the verbs need it.

use crate::{
    config::{self, Loaded, diagnostic::Diagnostics},
    domain::{SourceName, TenantName},
};
use anyhow::{Context, bail};
use std::{
    io::{self, IsTerminal, Read},
    path::Path,
};

/// No push is larger, whatever `server.limits.body` says.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Reads the file with the process's environment; what is wrong with it is the error's text.
pub(super) fn load(path: &Path) -> anyhow::Result<Loaded> {
    config::load(path, &|name| std::env::var(name).ok()).map_err(|diagnostics| mistakes(&diagnostics))
}

/// An error whose text is every mistake.
pub(super) fn mistakes(diagnostics: &Diagnostics) -> anyhow::Error {
    let shown = diagnostics.render(io::stderr().is_terminal());
    anyhow::anyhow!("the configuration has mistakes\n{}", shown.trim_end())
}

/// The source and tenant that are meant: by name, or because there is only one.
pub(super) fn pick(
    loaded: &Loaded,
    source: Option<&str>,
    tenant: Option<&str>,
) -> anyhow::Result<(SourceName, TenantName)> {
    let fits = |given: Option<&str>, name: &str| given.is_none_or(|given| given == name);
    let mut found = Vec::new();
    for (name, settings) in &loaded.settings.sources {
        let tenants = settings.tenants.keys().filter(|_| fits(source, name.as_str()));
        found.extend(tenants.filter(|of| fits(tenant, of.as_str())).map(|tenant| (name.clone(), tenant.clone())));
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no source and tenant of these names: look below `sources` in the file"),
        several => {
            let names: Vec<_> = several.iter().map(|(source, tenant)| format!("{source}/{tenant}")).collect();
            bail!("several are there: choose one of {} with --source and --tenant", names.join(", "))
        }
    }
}

/// A file's bytes, or for `-` what comes in.
pub(super) fn read_input(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(BODY_BYTES_MAX).read_to_end(&mut bytes).context("cannot read the input")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        file.take(BODY_BYTES_MAX)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
    }
    Ok(bytes)
}
