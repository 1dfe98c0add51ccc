//! `api laigu …`

use super::{
    TimeRange,
    pace::{Pace, advice},
    print::{self, Format, Io, number, text, time},
    table::Column,
};
use crate::vendors::http::Options;
use crate::{
    config::settings,
    domain::Timestamp,
    vendors::{
        laigu::api::{
            Api,
            error::{ApiError, classify},
            pull::{Page, Pull},
            records::{AgentOnline, AgentService, Client, Conversation, Listed},
            window::Paging,
        },
        record::Batch,
    },
};
use clap::{Args, Subcommand};

/// What to ask Laigu for.
#[derive(Debug, Clone, Subcommand)]
pub enum Call {
    /// One conversation, open or ended
    Conversation {
        /// Its `conv_id`
        id: String,
    },
    /// Conversations that ended in a span of time
    Conversations {
        /// The list by offset, for tenants without V2
        #[arg(long)]
        v1: bool,
        /// Which
        #[command(flatten)]
        which: Which,
    },
    /// Customers who were created in a span of time
    Clients(Which),
    /// Customers who changed in a span of time
    ClientsUpdated(Which),
    /// Agents' hours
    AgentOnline(TimeRange),
    /// Agents' work
    AgentService(TimeRange),
}

/// Which records of a list.
#[derive(Debug, Clone, Args)]
pub struct Which {
    #[command(flatten)]
    range: TimeRange,
    /// So many at the most
    #[arg(long)]
    limit: Option<u64>,
}

const CONVERSATIONS: &[Column<Conversation>] = &[
    Column { title: "conv_id", width: 12, show: |row| text(&row.conv_id) },
    Column { title: "began", width: 19, show: |row| time(&row.conv_start_tm) },
    Column { title: "ended", width: 19, show: |row| time(&row.conv_end_tm) },
    Column { title: "agent", width: 12, show: |row| text(&row.agent_name) },
    Column { title: "track_id", width: 27, show: |row| row.track_id().unwrap_or_default().to_owned() },
    Column { title: "channel", width: 10, show: |row| text(&row.main_channel) },
    Column { title: "agent/visitor", width: 13, show: |row| messages(row) },
];

const CLIENTS: &[Column<Client>] = &[
    Column { title: "track_id", width: 27, show: |row| text(&row.track_id) },
    Column { title: "changed", width: 19, show: |row| time(&row.updated_on) },
    Column { title: "created", width: 19, show: |row| time(&row.created_on) },
    Column { title: "name", width: 10, show: |row| text(&row.name) },
    Column { title: "source", width: 10, show: |row| text(&row.source) },
    Column { title: "tel", width: 13, show: |row| text(&row.tel) },
    Column { title: "weixin", width: 14, show: |row| text(&row.weixin) },
    Column { title: "qq", width: 11, show: |row| text(&row.qq) },
];

const ONLINE: &[Column<AgentOnline>] = &[
    Column { title: "agent_id", width: 12, show: |row| text(&row.agent_id) },
    Column { title: "agent", width: 14, show: |row| text(&row.agent_name) },
    Column { title: "group", width: 14, show: |row| text(&row.group_name) },
    Column { title: "online", width: 8, show: |row| number(&row.online_onduty) },
    Column { title: "hidden", width: 8, show: |row| number(&row.online_offduty) },
    Column { title: "offline", width: 8, show: |row| number(&row.offline) },
];

const SERVICE: &[Column<AgentService>] = &[
    Column { title: "agent_id", width: 12, show: |row| text(&row.agent_id) },
    Column { title: "agent", width: 14, show: |row| text(&row.agent_name) },
    Column { title: "group", width: 14, show: |row| text(&row.group_name) },
    Column { title: "conversations", width: 13, show: |row| number(&row.conv_cnt) },
    Column { title: "missed", width: 6, show: |row| number(&row.missed_conv_cnt) },
    Column { title: "messages", width: 8, show: |row| number(&row.msg_cnt) },
    Column { title: "leads", width: 6, show: |row| number(&row.clues_cnt) },
];

fn messages(row: &Conversation) -> String {
    format!("{}/{}", number(&row.conv_agent_msg_count), number(&row.conv_visitor_msg_count))
}

/// Runs one call.
pub async fn run(
    call: &Call,
    api: &settings::Api,
    enterprise_id: u64,
    format: Format,
    io: &mut Io<'_>,
) -> anyhow::Result<()> {
    let mut pace = Pace::new(api.rate);
    let client = Api::new(api, enterprise_id, Options::configured(), Paging::default())?;
    let now = Timestamp::now();
    match call {
        Call::Conversation { id } => {
            let record = once(&mut pace, async || client.conversation(id).await).await?;
            print::alone(io, format, &record)
        }
        Call::Conversations { v1, which } => {
            let range = which.range.window(now)?;
            let pull = if *v1 { client.conversations_v1(range) } else { client.conversations(range) };
            pulled(io, format, CONVERSATIONS, which.limit, &mut pace, pull).await
        }
        Call::Clients(which) => {
            let pull = client.clients_created(which.range.window(now)?);
            pulled(io, format, CLIENTS, which.limit, &mut pace, pull).await
        }
        Call::ClientsUpdated(which) => {
            let pull = client.clients_updated(which.range.window(now)?);
            pulled(io, format, CLIENTS, which.limit, &mut pace, pull).await
        }
        Call::AgentOnline(range) => {
            let window = range.window(now)?;
            let rows = once(&mut pace, async || client.agent_online_stats(window).await).await?;
            all(io, format, ONLINE, rows)
        }
        Call::AgentService(range) => {
            let window = range.window(now)?;
            let rows = once(&mut pace, async || client.agent_service(window).await).await?;
            all(io, format, SERVICE, rows)
        }
    }
}

async fn pulled<T: Listed>(
    io: &mut Io<'_>,
    format: Format,
    columns: &[Column<T>],
    limit: Option<u64>,
    pace: &mut Pace,
    mut pull: Pull<T>,
) -> anyhow::Result<()> {
    print::list(io, format, columns, limit, pace, async || match pull.next_page().await {
        Ok(page) => Ok(page.map(Page::into_batch)),
        Err(stopped) => Err((stopped.action, stopped.into())),
    })
    .await
}

fn all<T>(io: &mut Io<'_>, format: Format, columns: &[Column<T>], rows: Batch<T>) -> anyhow::Result<()> {
    if format == Format::Table {
        writeln!(io.out, "{}", super::table::header(columns))?;
    }
    rows.records.iter().try_for_each(|row| print::one(io, format, columns, row))?;
    print::unreadable(io, rows.unreadable)
}

async fn once<T>(pace: &mut Pace, mut ask: impl AsyncFnMut() -> Result<T, ApiError>) -> anyhow::Result<T> {
    loop {
        pace.turn().await;
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let action = classify(&error);
        if !pace.again(action).await {
            return Err(anyhow::Error::from(error).context(advice(action)));
        }
    }
}
