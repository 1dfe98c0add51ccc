//! `api easemob …`

use super::{
    TimeRange,
    pace::{Pace, advice},
    print::{self, Format, Io, number, text, time},
    table::{self, Column},
};
use crate::vendors::http::Options;
use crate::{
    config::settings,
    domain::{Secret, Timestamp},
    vendors::easemob::api::{
        Api,
        agents::{AgentChange, AgentPage, NewAgent, SIZE_DEFAULT},
        error::{ApiError, Intent, classify},
        records::{Agent, Role, Session},
        sessions::{PER_PAGE_DEFAULT, SessionFilter, SessionPage, SortField, SortOrder, Span},
    },
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

/// What to ask Easemob for.
#[derive(Debug, Clone, Subcommand)]
pub enum Call {
    /// Whether a token can be had, and for how long; it is never shown whole
    Token,
    /// Agents
    Agents {
        /// Part of a mail address, real name, phone or staff number
        #[arg(long, default_value = "")]
        search: String,
        /// So many at the most
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Makes, changes or deletes an agent
    Agent {
        /// What to do
        #[command(subcommand)]
        change: Change,
    },
    /// Roles
    Roles,
    /// Sessions that are over
    Sessions(Box<Sessions>),
}

/// What to do with an agent. Each is asked for once: where it may have been done, you are told to look.
#[derive(Debug, Clone, Subcommand)]
pub enum Change {
    /// Makes one; the password is the first line of standard input
    Create {
        /// Mail address
        username: String,
        /// Nickname
        #[arg(long)]
        nicename: String,
        /// Role, see `roles`
        #[arg(long)]
        role: u64,
        /// Real name
        #[arg(long, default_value = "")]
        true_name: String,
        /// Phone
        #[arg(long, default_value = "")]
        phone: String,
        /// Staff number
        #[arg(long, default_value = "")]
        number: String,
        /// Conversations at a time
        #[arg(long, default_value_t = 10)]
        sessions: u32,
    },
    /// Changes one; what is left out stays
    Update {
        /// Mail address
        username: String,
        /// Nickname
        #[arg(long)]
        nicename: Option<String>,
        /// Role, see `roles`
        #[arg(long)]
        role: Option<u64>,
        /// Real name
        #[arg(long)]
        true_name: Option<String>,
        /// Phone
        #[arg(long)]
        phone: Option<String>,
        /// Staff number
        #[arg(long)]
        number: Option<String>,
        /// Conversations at a time
        #[arg(long)]
        sessions: Option<u32>,
    },
    /// Deletes one
    Delete(Sure),
    /// Takes away the right to sign in
    Disable(Sure),
    /// Gives it back
    Enable {
        /// Mail address
        username: String,
    },
    /// Sets the password, which is the first line of standard input
    Password(Sure),
}

/// An agent, and whether one is sure.
#[derive(Debug, Clone, Args)]
pub struct Sure {
    /// Mail address
    username: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Stopped,
    Started,
    Created,
}

/// Which sessions.
#[derive(Debug, Clone, Args)]
pub struct Sessions {
    #[command(flatten)]
    range: TimeRange,
    /// So many at the most
    #[arg(long)]
    limit: Option<u64>,
    /// By which time the range and the order go
    #[arg(long, value_enum, default_value = "stopped")]
    by: Sort,
    /// Newest first
    #[arg(long)]
    newest: bool,
    /// Sessions a page, 1 to 50
    #[arg(long, default_value_t = PER_PAGE_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=50))]
    per_page: u32,
    /// `webim`, `app`, `weixin`, `weibo` or `phone`
    #[arg(long)]
    origin: Option<String>,
    /// The customer's nickname
    #[arg(long)]
    customer: Option<String>,
    /// Handed over or not
    #[arg(long)]
    transfered: Option<bool>,
    /// An agent called, not the customer
    #[arg(long)]
    callback: Option<bool>,
    /// The customer's mark
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=5))]
    enquiry: Option<u8>,
    /// Queues, by id
    #[arg(long, value_delimiter = ',')]
    queues: Vec<String>,
    /// Agents, by id
    #[arg(long, value_delimiter = ',')]
    agents: Vec<String>,
    /// `Terminal`, `Abort`
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
}

impl Sessions {
    fn filter(&self, now: Timestamp) -> anyhow::Result<SessionFilter> {
        let window = self.range.window(now)?;
        let span = Span { from: Some(window.from), to: Some(window.to) };
        let mut filter = SessionFilter {
            origin_type: self.origin.clone(),
            customer_name: self.customer.clone(),
            transfered: self.transfered,
            from_agent_callback: self.callback,
            enquiry_summary: self.enquiry,
            queue_ids: self.queues.clone(),
            agent_ids: self.agents.clone(),
            states: self.state.clone(),
            sort_order: if self.newest { SortOrder::Descending } else { SortOrder::Ascending },
            ..SessionFilter::default()
        };
        match self.by {
            Sort::Stopped => (filter.sort_field, filter.stopped) = (SortField::Stopped, span),
            Sort::Started => (filter.sort_field, filter.taken) = (SortField::Started, span),
            Sort::Created => (filter.sort_field, filter.created) = (SortField::Created, span),
        }
        Ok(filter)
    }
}

const AGENTS: &[Column<Agent>] = &[
    Column { title: "username", width: 28, show: |row| text(&row.username) },
    Column { title: "nicename", width: 12, show: |row| text(&row.nicename) },
    Column { title: "real name", width: 12, show: |row| text(&row.true_name) },
    Column { title: "status", width: 8, show: |row| text(&row.status) },
    Column { title: "state", width: 8, show: |row| text(&row.state) },
    Column { title: "roles", width: 14, show: |row| text(&row.roles) },
    Column { title: "sessions", width: 8, show: |row| number(&row.max_service_session_count) },
];

const ROLES: &[Column<Role>] = &[
    Column { title: "role_id", width: 8, show: |row| text(&row.role_id) },
    Column { title: "name", width: 14, show: |row| text(&row.role_name) },
    Column { title: "type", width: 11, show: |row| text(&row.role_type) },
    Column { title: "status", width: 8, show: |row| text(&row.status) },
    Column { title: "created", width: 19, show: |row| time(&row.created_at) },
];

const SESSIONS: &[Column<Session>] = &[
    Column { title: "session", width: 36, show: |row| text(&row.service_session_id) },
    Column { title: "ended", width: 19, show: |row| time(&row.stopped) },
    Column { title: "state", width: 8, show: |row| text(&row.state) },
    Column { title: "agent", width: 12, show: |row| text(&row.agent_user_nice_name) },
    Column { title: "origin", width: 8, show: |row| row.origin_type.clone().unwrap_or_default().join(",") },
    Column { title: "mark", width: 4, show: |row| number(&row.enquiry_summary) },
    Column { title: "summary", width: 20, show: |row| text(&row.summarys_detail) },
];

/// Runs one call.
pub async fn run(
    call: &Call,
    api: &settings::Api,
    tenant_id: &str,
    format: Format,
    io: &mut Io<'_>,
) -> anyhow::Result<()> {
    let mut pace = Pace::new(api.rate);
    let client = Api::new(api, tenant_id, Options::configured())?;
    match call {
        Call::Token => {
            let token = once(&mut pace, async || client.token().await).await?;
            let begin: String = token.secret.expose().chars().take(4).collect();
            let life = token.life.as_secs();
            match format {
                Format::Table => writeln!(io.out, "good for {life} s, begins with {}", table::plain(&begin))?,
                Format::Json | Format::Raw => {
                    writeln!(io.out, "{}", json!({"begins_with": begin, "expires_in": life}))?;
                }
            }
            Ok(())
        }
        Call::Agents { search, limit } => {
            let mut pull = client.agents(search, SIZE_DEFAULT);
            let next = async || match pull.next_page().await {
                Ok(page) => Ok(page.map(AgentPage::into_batch)),
                Err(stopped) => Err((stopped.action, stopped.into())),
            };
            print::list(io, format, AGENTS, *limit, &mut pace, next).await
        }
        Call::Agent { change } => self::change(&client, change, format, io).await,
        Call::Roles => {
            let roles = once(&mut pace, async || client.roles().await).await?;
            if format == Format::Table {
                writeln!(io.out, "{}", table::header(ROLES))?;
            }
            roles.iter().try_for_each(|role| print::one(io, format, ROLES, role))
        }
        Call::Sessions(sessions) => {
            let mut pull = client.sessions(sessions.filter(Timestamp::now())?, sessions.per_page);
            let next = async || match pull.next_page().await {
                Ok(page) => Ok(page.map(SessionPage::into_batch)),
                Err(stopped) => Err((stopped.action, stopped.into())),
            };
            print::list(io, format, SESSIONS, sessions.limit, &mut pace, next).await
        }
    }
}

/// Makes one change, once.
async fn change(client: &Api, change: &Change, format: Format, io: &mut Io<'_>) -> anyhow::Result<()> {
    let told = |error: ApiError| {
        let action = classify(&error, Intent::Change);
        anyhow::Error::from(error).context(advice(action))
    };
    match change {
        Change::Create { username, nicename, role, true_name, phone, number, sessions } => {
            let agent = NewAgent {
                nicename: nicename.clone(),
                username: username.clone(),
                password: Secret::new(io.password()?),
                true_name: true_name.clone(),
                mobile_phone: phone.clone(),
                agent_number: number.clone(),
                role_id: *role,
                max_service_session_count: *sessions,
            };
            let made = client.create_agent(&agent).await.map_err(told)?;
            return print::alone(io, format, &made);
        }
        Change::Update { username, nicename, role, true_name, phone, number, sessions } => {
            let change = AgentChange {
                nicename: nicename.clone(),
                true_name: true_name.clone(),
                mobile_phone: phone.clone(),
                agent_number: number.clone(),
                role_id: *role,
                max_service_session_count: *sessions,
            };
            if change == AgentChange::default() {
                anyhow::bail!("nothing to change was named");
            }
            client.update_agent(username, &change).await.map_err(told)?;
        }
        Change::Delete(Sure { username, yes }) => {
            io.confirm(&format!("Delete {}?", table::plain(username)), *yes)?;
            client.delete_agent(username).await.map_err(told)?;
        }
        Change::Disable(Sure { username, yes }) => {
            io.confirm(&format!("Keep {} from signing in?", table::plain(username)), *yes)?;
            client.disable_agent(username).await.map_err(told)?;
        }
        Change::Enable { username } => client.enable_agent(username).await.map_err(told)?,
        Change::Password(Sure { username, yes }) => {
            let password = Secret::new(io.password()?);
            // Standard input held the password, so nobody can be asked: without `--yes` this ends here.
            io.confirm(&format!("Set the password of {}?", table::plain(username)), *yes)?;
            client.set_password(username, &password).await.map_err(told)?;
        }
    }
    match format {
        Format::Table => writeln!(io.out, "done")?,
        Format::Json | Format::Raw => writeln!(io.out, "{}", json!({"status": "OK"}))?,
    }
    Ok(())
}

async fn once<T>(pace: &mut Pace, mut ask: impl AsyncFnMut() -> Result<T, ApiError>) -> anyhow::Result<T> {
    loop {
        pace.turn().await;
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let action = classify(&error, Intent::Read);
        if !pace.again(action).await {
            return Err(anyhow::Error::from(error).context(advice(action)));
        }
    }
}
