//! `sign`: the headers that a vendor would send with a body, ready for curl.
//!
//! ```sh
//! curl -H "$(laigu-router sign push.json)" --data-binary @push.json localhost:8080/hooks/laigu/acme
//! ```

use super::{Global, Status, config_file, output::print};
use crate::{
    config::settings::{Signature, SignatureEncoding, SignatureScheme},
    domain::{Secret, Timestamp},
    vendors::signature::Verifier,
};
use anyhow::{Context, bail};
use clap::{ArgGroup, Args, ValueEnum};
use std::path::PathBuf;

/// Where a secret is looked for when neither a tenant nor a file is named.
const SECRET_VARIABLE: &str = "LAIGU_ROUTER_SIGN_SECRET";

/// The arguments of `sign`.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("by_hand").args(["scheme", "secret_file"]).multiple(true)))]
pub(super) struct SignArgs {
    /// The body, byte for byte; `-`: the input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// As this source's sender signs; needed where the file has several
    #[arg(long)]
    source: Option<String>,
    /// With this tenant's first secret
    #[arg(long)]
    tenant: Option<String>,
    /// With this scheme instead of a source's: the secret comes from --secret-file or LAIGU_ROUTER_SIGN_SECRET
    #[arg(long, conflicts_with_all = ["source", "tenant"], value_enum)]
    scheme: Option<Scheme>,
    /// With the secret in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "tenant"])]
    secret_file: Option<PathBuf>,
    /// The header to send it in, instead of the scheme's usual one; with --scheme or --secret-file
    #[arg(long, requires = "by_hand", conflicts_with_all = ["source", "tenant"])]
    header: Option<String>,
    /// The message id that Standard Webhooks signs [default: a random one]
    #[arg(long)]
    id: Option<String>,
}

/// `signature.scheme`, as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scheme {
    /// SHA1(body + secret): Laigu and Meiqia
    Sha1Suffix,
    /// HMAC-SHA1 of the body
    HmacSha1,
    /// HMAC-SHA256 of the body
    HmacSha256,
    /// standardwebhooks.com
    StandardWebhooks,
    /// Meiqia SDK's offline push
    MeiqiaSign,
    /// The header is the secret
    Token,
}

impl Scheme {
    const fn of_settings(self) -> (SignatureScheme, &'static str) {
        match self {
            Self::Sha1Suffix => (SignatureScheme::Sha1Suffix, "meiqia-signature"),
            Self::HmacSha1 => (SignatureScheme::HmacSha1, "x-signature"),
            Self::HmacSha256 => (SignatureScheme::HmacSha256, "x-signature"),
            Self::StandardWebhooks => (SignatureScheme::StandardWebhooks, "webhook-signature"),
            Self::MeiqiaSign => (SignatureScheme::MeiqiaSign, "authorization"),
            Self::Token => (SignatureScheme::Token, "x-token"),
        }
    }
}

pub(super) fn run(global: &Global, args: &SignArgs) -> anyhow::Result<Status> {
    let verifier = match (args.scheme, &args.secret_file) {
        (None, None) => of_tenant(global, args)?,
        (scheme, _) => by_hand(scheme.unwrap_or(Scheme::Sha1Suffix), args)?,
    };
    if !verifier.signs() {
        bail!("this source's pushes are not signed: the last segment of the hook's URL is the secret");
    }
    let body = config_file::read_input(&args.file)?;
    let id = args.id.clone().unwrap_or_else(|| format!("msg_{:016x}", fastrand::u64(..)));
    print(&headers(&verifier, &body, &id, Timestamp::now())?)?;
    Ok(Status::Done)
}

/// The headers, one a line, names as vendors write them.
fn headers(verifier: &Verifier, body: &[u8], id: &str, now: Timestamp) -> anyhow::Result<String> {
    let mut text = String::new();
    for (name, value) in verifier.sign(body, id, now) {
        let value = value.to_str().context("the signature cannot be a header")?;
        text += &format!("{}: {value}\n", capitalised(name.as_str()));
    }
    if text.is_empty() {
        bail!("nothing came of it: the secret cannot be sent in a header");
    }
    Ok(text)
}

fn capitalised(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

fn of_tenant(global: &Global, args: &SignArgs) -> anyhow::Result<Verifier> {
    let loaded = config_file::load(&global.config)?;
    let (source, tenant) = config_file::pick(&loaded, args.source.as_deref(), args.tenant.as_deref())?;
    let settings = loaded.settings.sources.get(&source).context("a picked source is there")?;
    let secrets = settings.tenants.get(&tenant).map(|tenant| tenant.secrets.as_slice()).unwrap_or_default();
    Verifier::new(&settings.signature, secrets).with_context(|| format!("source `{source}`, tenant `{tenant}`"))
}

fn by_hand(scheme: Scheme, args: &SignArgs) -> anyhow::Result<Verifier> {
    let secret = match &args.secret_file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("--secret-file: cannot read `{}`", file.display()))?
        }
        None => std::env::var(SECRET_VARIABLE).unwrap_or_default(),
    };
    let secret = Secret::new(secret.trim_end_matches(['\r', '\n']).to_owned());
    if secret.is_empty() {
        bail!("there is no secret: name its file with --secret-file, or put it into {SECRET_VARIABLE}");
    }
    let (scheme, header) = scheme.of_settings();
    let header = args.header.clone().unwrap_or_else(|| header.to_owned());
    let signature =
        Signature { scheme, headers: vec![header], encoding: SignatureEncoding::Hex, prefix: String::new() };
    Ok(Verifier::new(&signature, &[secret])?)
}

#[cfg(test)]
mod tests {
    use super::{SignArgs, by_hand, headers};
    use crate::{
        domain::{Secret, Timestamp},
        vendors::signature::Verifier,
    };
    use clap::{Parser, ValueEnum};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sign: SignArgs,
    }

    fn verifier(scheme: &str, folder: &std::path::Path) -> Verifier {
        let file = folder.join("secret");
        std::fs::write(&file, "dGVzdF9zZWNyZXQ=\n").unwrap();
        let line = format!("sign --scheme {scheme} --secret-file {} push.json", file.display());
        let args = Line::try_parse_from(line.split(' ')).unwrap().sign;
        by_hand(args.scheme.unwrap(), &args).unwrap()
    }

    #[test]
    fn every_scheme_signs_what_it_then_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_726_824_222_989);
        for scheme in super::Scheme::value_variants() {
            let scheme = scheme.to_possible_value().unwrap();
            let verifier = verifier(scheme.get_name(), folder.path());
            let mut map = http::HeaderMap::new();
            for line in headers(&verifier, b"{}", "msg_1", now).unwrap().lines() {
                let (name, value) = line.split_once(": ").unwrap();
                map.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
            }
            assert_eq!(verifier.verify(&map, b"{}", now), Ok(()), "{}", scheme.get_name());
        }
    }

    #[test]
    fn another_header_is_for_what_is_signed_by_hand() {
        let check = |line: &str, good: bool| {
            assert_eq!(Line::try_parse_from(line.split(' ')).is_ok(), good, "{line}");
        };
        check("sign push.json --header x-mine", false);
        check("sign push.json --header x-mine --scheme token", true);
        check("sign push.json --header x-mine --secret-file s", true);
        check("sign push.json --header x-mine --secret-file s --scheme token", true);
        check("sign push.json --secret-file s --scheme token", true);
    }

    #[test]
    fn the_line_is_what_laigu_sends() {
        let signature = crate::config::settings::Signature {
            scheme: crate::config::settings::SignatureScheme::Sha1Suffix,
            headers: vec!["meiqia-signature".to_owned()],
            encoding: crate::config::settings::SignatureEncoding::Hex,
            prefix: String::new(),
        };
        let verifier = Verifier::new(&signature, &[Secret::new("test_secret".to_owned())]).unwrap();
        let line = headers(&verifier, b"{}", "", Timestamp::EPOCH).unwrap();
        assert_eq!(line, "Meiqia-Signature: c20048d3bde8931c7cba75b2be761f2c7e02a6a3\n");
    }
}
