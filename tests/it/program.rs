//! The real program as a child process: started, asked over HTTP, stopped or killed.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long a test waits for anything: a loaded machine is slow, and a pass does not depend on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Below what systems give to outgoing connections: nobody takes such a port while the program is down.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A folder with `routes.yaml` and everything the program keeps, and two ports of its own.
pub struct Home {
    folder: tempfile::TempDir,
    pub hooks: u16,
    pub admin: u16,
}

impl Home {
    /// Writes the routes file: `text` is what comes after its `version`, `server` and `storage` sections.
    pub fn new(storage: &str, text: &str) -> Self {
        let (hooks, admin) = (free_port(), free_port());
        let home = Self { folder: tempfile::tempdir().unwrap(), hooks, admin };
        let head = format!(
            "version: 1\nserver:\n  listen: 127.0.0.1:{hooks}\n  admin: 127.0.0.1:{admin}\n  shutdown_delay: 0s\n\
             storage: {storage}\n"
        );
        fs::write(home.path("routes.yaml"), head + text).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the program and waits until it is ready.
    pub fn start(&self) -> Program {
        self.start_with(&[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Program {
        self.ready(self.spawn_with(variables))
    }

    /// The same, where it may open so many files and no more.
    pub fn start_with_files(&self, files: usize) -> Program {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(env!("CARGO_BIN_EXE_laigu-router"));
        self.ready(self.spawn_as(shell, &[]))
    }

    fn ready(&self, mut program: Program) -> Program {
        let until = Instant::now() + PATIENCE;
        while !matches!(get(self.admin, "/readyz"), Some((200, _))) {
            let ended = program.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "not ready, {ended:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        program
    }

    /// Starts the program without waiting for anything.
    pub fn spawn(&self) -> Program {
        self.spawn_with(&[])
    }

    /// The same, with variables in its environment.
    pub fn spawn_with(&self, variables: &[(&str, &str)]) -> Program {
        self.spawn_as(Command::new(env!("CARGO_BIN_EXE_laigu-router")), variables)
    }

    fn spawn_as(&self, mut command: Command, variables: &[(&str, &str)]) -> Program {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.arg("--config").arg(self.path("routes.yaml")).arg("serve").current_dir(self.folder.path());
        command
            .env("RUST_LOG", "info")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Program { child: command.spawn().unwrap(), admin: self.admin }
    }

    /// The end of what the program has said.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    admin: u16,
}

impl Program {
    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`. Returns the moment before.
    pub fn kill(mut self) -> Instant {
        let now = Instant::now();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        now
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self, within: Duration) -> ExitStatus {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
        self.ended(within)
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it did not end within {within:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The sum of a metric over the lines whose labels hold all of `labels`; 0 if there is none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, text) = get(self.admin, "/metrics").expect("the program answers");
        assert_eq!(status, 200);
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let wanted = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric is `expected`.
    pub fn wait_for(&self, name: &str, labels: &[&str], expected: f64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.metric(name, labels);
            if (found - expected).abs() < 0.5 {
                return;
            }
            assert!(Instant::now() < until, "{name} {labels:?} is {found}, not {expected}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// One GET over a connection of its own; `None` where nobody answers.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some((text.split(' ').nth(1)?.parse().ok()?, text))
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until a process that was killed is gone: until then it may still be taken for a running one.
pub fn wait_for_end(pid: &str) {
    let cmdline = std::path::PathBuf::from(format!("/proc/{pid}/cmdline"));
    let is_gone = || std::fs::read(&cmdline).map_or(true, |line| line.is_empty());
    wait_for("the end of a killed process", PATIENCE, || is_gone().then_some(()));
}

/// Waits until something is there, and gives it.
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
