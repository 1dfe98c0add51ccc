//! Every key of `routes.yaml`, by section. `docs/routes.md` has the same tables; a test compares them.

/// The keys of one section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The section, as `docs/routes.md` heads it; a `*` stands for a name.
    pub section: &'static str,
    /// Its keys.
    pub keys: &'static [&'static str],
}

macro_rules! sections {
    ($($name:ident = $section:literal: $($key:literal)+;)*) => {
        $(pub(super) const $name: Keys = Keys { section: $section, keys: &[$($key),+] };)*

        /// All sections, in the order of `docs/routes.md`.
        pub const ALL: &[Keys] = &[$($name),*];
    };
}

sections! {
    FILE = "routes.yaml": "version" "server" "storage" "sources" "destinations" "routes" "unrouted" "retry";
    SERVER = "server": "listen" "admin" "admin_tokens" "trusted_proxies" "shutdown_delay" "tls" "limits";
    ADMIN_TOKEN = "server.admin_tokens": "name" "role" "token" "token_file";
    TLS = "server.tls": "cert_file" "key_file";
    LIMITS = "server.limits":
        "body" "headers" "header_count" "connections" "header_timeout" "body_timeout" "idle_timeout";
    STORAGE = "storage": "path" "retain" "max_size" "backlog_alarm";
    RETAIN = "storage.retain": "delivered" "dead_letters" "ids";
    SOURCE = "sources.*": "type" "ack" "probe" "signature" "fields" "tenants";
    SIGNATURE = "sources.*.signature": "scheme" "headers" "encoding" "prefix";
    FIELDS = "sources.*.fields": "id" "type" "key" "time" "payload";
    TENANT = "sources.*.tenants.*":
        "enterprise_token" "enterprise_id" "tenant_id" "secret" "secret_file" "path_secret" "path_secret_file"
        "allow_from" "api" "reconcile" "poll" "reports";
    API = "sources.*.tenants.*.api":
        "base_url" "allow_http" "path_prefix" "access_token" "access_token_file" "app_id" "app_id_file"
        "sign" "sign_file" "client_id" "client_id_file" "secret_id" "secret_id_file" "rate";
    RECONCILE = "sources.*.tenants.*.reconcile": "clients" "conversations" "lag" "overlap" "lookback";
    POLL = "sources.*.tenants.*.poll": "sessions";
    REPORTS = "sources.*.tenants.*.reports": "agent_online" "agent_service";
    RABBITMQ = "destinations.* (rabbitmq)":
        "type" "url" "url_file" "exchange" "mandatory" "ca_file" "cert_file" "key_file" "window" "rate";
    EXCHANGE = "destinations.*.exchange": "name" "type" "durable" "declare";
    KAFKA = "destinations.* (kafka)": "type" "brokers" "topic" "security" "properties" "window" "rate";
    SECURITY = "destinations.*.security":
        "protocol" "mechanism" "username" "password" "password_file" "ca_file" "cert_file" "key_file";
    FILE_FOLDER = "destinations.* (file)": "type" "path" "window" "rate";
    ROUTE = "routes":
        "name" "when" "enrich" "required" "enrich_within" "on_dead" "stop" "when_enriched" "to";
    TARGET = "routes.to": "destination" "routing_key" "key";
    RETRY = "retry": "max_age" "backoff" "unroutable";
}
