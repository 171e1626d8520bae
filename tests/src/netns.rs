//! Network namespaces: small machines of their own, on this one, that go away with the value that stands for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, anyhow, bail};

/// A network namespace with its loopback up. It is removed when dropped, also by a panic.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with the word; needs root. What test runs that were killed left is removed.
    pub fn new(word: &str) -> Result<Self> {
        sweep();
        let name = format!("ls-{}-{word}-{:04x}", std::process::id(), rand::random::<u16>());
        ip(&["netns", "add", &name]).context("cannot make a network namespace; is this root?")?;
        let namespace = Self { name };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name that `ip -n` and `ip netns exec` take.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Joins this namespace and another by a pair of virtual Ethernet devices, each named after the other end's address.
    pub fn join(&self, address: &str, other: &Self, other_address: &str) -> Result<()> {
        let word: u32 = rand::random();
        let (here, there) = (format!("ve{word:08x}a"), format!("ve{word:08x}b"));
        ip(&["-n", &self.name, "link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &other.name])?;
        for (namespace, device, address) in [(self, &here, address), (other, &there, other_address)] {
            ip(&["-n", &namespace.name, "address", "add", address, "dev", device])?;
            ip(&["-n", &namespace.name, "link", "set", device, "up"])?;
        }
        Ok(())
    }

    /// Sends what is for nobody nearby to that address.
    pub fn route_by(&self, gateway: &str) -> Result<()> {
        ip(&["-n", &self.name, "route", "replace", "default", "via", gateway]).map(drop)
    }

    /// Lets this namespace pass packets on between its devices.
    pub fn forward(&self) -> Result<()> {
        run(self.command("sysctl").args(["-qw", "net.ipv4.ip_forward=1"])).map(drop)
    }

    /// Has programs that are started inside from now on find a name at an address, by a hosts file of their own.
    pub fn host(&self, name: &str, address: &str) -> Result<()> {
        let folder = self.files();
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("hosts");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{before}{address} {name}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Does something on a thread of its own that has gone inside: sockets made there belong there, wherever they are
    /// used afterwards.
    pub fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let path = Path::new("/run/netns").join(&self.name);
        let entrance = std::fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let thread = std::thread::spawn(move || {
            nix::sched::setns(entrance, nix::sched::CloneFlags::CLONE_NEWNET)?;
            act()
        });
        thread.join().map_err(|_| anyhow!("a thread inside {} panicked", self.name))?
    }

    /// The same for what waits.
    pub fn inside_async<T: Send + 'static, F: AsyncFnOnce() -> Result<T> + Send + 'static>(&self, act: F) -> Result<T> {
        self.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(act())
        })
    }

    /// Makes something on a thread inside that stays as long as what was made: its tasks go on there, and children that die
    /// with the thread that started them live.
    pub fn keep_inside<T: Send + 'static, F: AsyncFnOnce() -> Result<T> + Send + 'static>(
        &self,
        make: F,
    ) -> Result<Resident<T>> {
        let (leave, left) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let path = Path::new("/run/netns").join(&self.name);
        let entrance = std::fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let thread = std::thread::Builder::new().name("resident".into()).spawn(move || {
            let made = nix::sched::setns(entrance, nix::sched::CloneFlags::CLONE_NEWNET).map_err(Into::into);
            let runtime = made.and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
            match runtime {
                Ok(runtime) => runtime.block_on(async {
                    drop(tell.send(make().await));
                    drop(left.await);
                }),
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        let made = told.recv().map_err(|_| anyhow!("a thread inside {} panicked", self.name))??;
        Ok(Resident { made: Some(made), leave: Some(leave), thread: Some(thread) })
    }

    /// Files that `ip netns exec` lays over those of /etc.
    fn files(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    /// A command that will run inside; its process is the program's own, so that its id can be killed.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

/// What lives inside a namespace, with the thread that it was made on.
#[derive(Debug)]
pub struct Resident<T> {
    made: Option<T>,
    leave: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<T> Resident<T> {
    /// What was made.
    pub fn get(&mut self) -> Result<&mut T> {
        self.made.as_mut().context("it is gone")
    }
}

impl<T> Drop for Resident<T> {
    fn drop(&mut self) {
        drop(self.made.take());
        drop(self.leave.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(ip(&["netns", "delete", &self.name]));
        drop(std::fs::remove_dir_all(self.files()));
    }
}

/// Runs `ip` and returns what it prints.
pub fn ip(arguments: &[&str]) -> Result<String> {
    run(Command::new("ip").args(arguments))
}

/// Runs a command to its end; an error says what it was and what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Removes namespaces whose makers are no more.
fn sweep() {
    for line in ip(&["netns", "list"]).unwrap_or_default().lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let maker = name.strip_prefix("ls-").and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            drop(ip(&["netns", "delete", name]));
            drop(std::fs::remove_dir_all(Path::new("/etc/netns").join(name)));
        }
    }
}
