//! What the enrichment of a tenant is set up with: what the file says of its API.

use crate::{
    config::settings::{self, Settings, SourceKind},
    domain::{SourceName, TenantName},
};

/// A tenant, as far as its API matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The source.
    pub source: SourceName,
    /// The tenant.
    pub tenant: TenantName,
    /// What the source speaks.
    pub kind: SourceKind,
    /// Laigu's number of the enterprise.
    pub enterprise_id: Option<u64>,
    /// Easemob's number of the tenant.
    pub tenant_id: Option<String>,
    /// Its API, if the file names one.
    pub api: Option<settings::Api>,
}

impl Setup {
    /// All tenants of a file.
    #[must_use]
    pub fn all(settings: &Settings) -> Vec<Self> {
        let of_source = |(source, section): (&SourceName, &settings::Source)| {
            let setup = |(tenant, of_tenant): (&TenantName, &settings::Tenant)| Self {
                source: source.clone(),
                tenant: tenant.clone(),
                kind: section.kind,
                enterprise_id: of_tenant.enterprise_id,
                tenant_id: of_tenant.tenant_id.clone(),
                api: of_tenant.api.clone(),
            };
            section.tenants.iter().map(setup).collect::<Vec<_>>()
        };
        settings.sources.iter().flat_map(of_source).collect()
    }

    /// Whether another API, or another enterprise there, is asked: then nothing that is known holds.
    pub(super) fn is_elsewhere(&self, other: &Self) -> bool {
        let base = |setup: &Self| setup.api.as_ref().map(|api| (api.base_url.clone(), api.path_prefix.clone()));
        (base(self), self.enterprise_id, &self.tenant_id) != (base(other), other.enterprise_id, &other.tenant_id)
    }
}
