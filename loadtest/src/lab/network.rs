//! A network of one's own: each node in a network namespace with one cable to a bridge, so that what passes between any two of them
//! can be cut, in one direction or both. Needs root and iproute2.
//!
//! A direction is cut by a wrong hardware address for the other side in the sender's neighbour table: packets leave and nobody takes
//! them. That is silence, as a broken switch makes it, not a refusal that the sender would notice; and it needs nothing of the kernel
//! but bridges and namespaces (packet filters and traffic control are often not built into the kernels of containers and small
//! machines).

use std::{
    fmt,
    net::Ipv4Addr,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, bail, ensure};

use super::{environment, watchdog::Undo};

/// Nobody has this hardware address: it is locally administered, and the bridge learns it from no one.
const NOBODY: &str = "02:00:00:00:00:01";
/// Subnets 10.213.0.0/24 to 10.213.255.0/24: what is in use is left alone.
const PREFIX: [u8; 2] = [10, 213];
/// The interface inside a namespace.
const CABLE: &str = "eth0";

/// A bridge in this process's own namespace, and hosts behind it. Gone when dropped, and when this process is killed.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    bridge: String,
    gateway: Ipv4Addr,
    _undo: Vec<Undo>,
}

/// A place for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As `ip netns` knows it.
    pub namespace: String,
    pub address: Ipv4Addr,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The host of that number.
    Host(usize),
    /// This process, and the brokers that it runs in its own namespace.
    Gateway,
}

impl Network {
    /// Fails with a sentence where networks cannot be made.
    ///
    /// # Errors
    /// This process is not root, or there is no `ip`.
    pub fn check_possible() -> anyhow::Result<()> {
        ensure!(environment::is_root(), "a network partition needs network namespaces, and only root may make them");
        environment::ip().context("a network partition needs iproute2").map(|_| ())
    }

    /// Makes a bridge and so many hosts.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make(hosts: usize) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self::check_possible()?;
        // Interface names have at most 15 characters.
        let bridge = format!("slu{:x}x{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let subnet = free_subnet()?;
        let address = |last: usize| -> anyhow::Result<Ipv4Addr> {
            Ok(Ipv4Addr::new(PREFIX[0], PREFIX[1], subnet, u8::try_from(last)?))
        };
        let gateway = address(1)?;
        let mut undo = vec![Undo::later(&format!("ip link delete {bridge}"))?];
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("address add {gateway}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        let mut made = Vec::new();
        for number in 0..hosts {
            let host = Host { namespace: format!("{bridge}n{number}"), address: address(number + 10)? };
            undo.push(Undo::later(&format!("ip netns delete {}", host.namespace))?);
            plug_in(&host, &bridge, number)?;
            made.push(host);
        }
        // A namespace takes its end of the cable with it: the namespaces go first, the bridge last.
        undo.reverse();
        Ok(Self { hosts: made, bridge, gateway, _undo: undo })
    }

    /// Where this process and its brokers are, as seen from the hosts.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// A host.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// From now on nothing that `from` sends arrives at `to`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self, from: End, to: End) -> anyhow::Result<()> {
        let at = self.table(from);
        ip(&format!("{} neighbour replace {} lladdr {NOBODY} nud permanent dev {}", at.0, self.address(to), at.1))
    }

    /// Undoes [`Self::cut`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mend(&self, from: End, to: End) -> anyhow::Result<()> {
        let at = self.table(from);
        ip(&format!("{} neighbour delete {} dev {}", at.0, self.address(to), at.1))
    }

    fn address(&self, end: End) -> Ipv4Addr {
        match end {
            End::Host(number) => self.hosts[number].address,
            End::Gateway => self.gateway,
        }
    }

    /// Namespace option and interface of the neighbour table that decides what this end sends where.
    fn table(&self, end: End) -> (String, &str) {
        match end {
            End::Host(number) => (format!("-n {}", self.hosts[number].namespace), CABLE),
            End::Gateway => (String::new(), &self.bridge),
        }
    }
}

impl Host {
    /// The command that runs a program at this host.
    ///
    /// # Errors
    /// There is no `ip`.
    pub fn command(&self, program: &std::path::Path) -> anyhow::Result<Command> {
        let mut command = Command::new(environment::ip()?);
        // It becomes the program: process id and signals are the program's.
        command.args(["netns", "exec", &self.namespace]).arg(program);
        Ok(command)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(number) => write!(f, "host {number}"),
            Self::Gateway => f.write_str("the brokers"),
        }
    }
}

fn plug_in(host: &Host, bridge: &str, number: usize) -> anyhow::Result<()> {
    let Host { namespace, address } = host;
    let socket = format!("{bridge}v{number}");
    ip(&format!("netns add {namespace}"))?;
    ip(&format!("link add {socket} type veth peer name {CABLE} netns {namespace}"))?;
    ip(&format!("link set {socket} master {bridge}"))?;
    ip(&format!("link set {socket} up"))?;
    ip(&format!("-n {namespace} link set lo up"))?;
    ip(&format!("-n {namespace} address add {address}/24 dev {CABLE}"))?;
    ip(&format!("-n {namespace} link set {CABLE} up"))
}

/// The third byte of a subnet that no interface of this machine has.
fn free_subnet() -> anyhow::Result<u8> {
    let output = Command::new(environment::ip()?).args(["-o", "-4", "address"]).output()?;
    let used = String::from_utf8_lossy(&output.stdout).into_owned();
    // Runs that start side by side begin at different places.
    let begin = process::id() % 256;
    for offset in 0..256 {
        let third = u8::try_from((begin + offset) % 256)?;
        if !used.contains(&format!(" {}.{}.{third}.", PREFIX[0], PREFIX[1])) {
            return Ok(third);
        }
    }
    bail!("all subnets of {}.{}.0.0/16 are in use", PREFIX[0], PREFIX[1])
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new(environment::ip()?).args(arguments.split_ascii_whitespace()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", said.trim());
    Ok(())
}
