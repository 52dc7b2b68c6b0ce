//! Network namespaces as pods: a bridge on this machine, and namespaces on it that have an address of their own, IPv4 and
//! IPv6, see each other and the machine, and are gone with the value. Called by tests that redirect or route real traffic.
//!
//! `Bridge::new()`, `bridge.pod("web")`, then `pod.command("curl")` for a process, `pod.run(..)` and
//! `pod.spawn_thread(..)` for a thread of the test. A socket stays in the namespace that it was made in, so that
//! `pod.listen(port)` gives a listener of the pod to a runtime outside of it.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The user that a sidecar runs as; the packet filter leaves it alone.
pub const PROXY_UID: u32 = 1337;

/// Whether this machine lets the test make pods. If not, the test says so on stderr, or fails where nothing may be skipped.
pub fn require_root() -> bool {
    require_root_and(&[])
}

/// And whether it has these tools.
pub fn require_root_and(tools: &[&str]) -> bool {
    let missing = |tool: &&&str| Command::new(tool).arg("--version").output().is_err();
    if let Some(tool) = tools.iter().find(missing) {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "the tool `{tool}` is not installed"
        );
        eprintln!("NOT RUN: the tool `{tool}` is not installed");
        return false;
    }
    let able = rustix::process::geteuid().is_root() && Command::new("ip").arg("-V").output().is_ok();
    if !able {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "network namespaces need root and the tool `ip`"
        );
        eprintln!("NOT RUN: network namespaces need root and the tool `ip` (Debian package iproute2)");
    }
    able
}

/// A bridge with an address on this machine, and a network of its own for its pods.
pub struct Bridge(Arc<Network>);

struct Network {
    link: String,
    /// The third and fourth byte are free: 10.x.y.0/24, fd00:7473:x:y::/64.
    x: u8,
    y: u8,
    ipv6: bool,
    next: AtomicU8,
    made: Mutex<Vec<String>>,
}

impl Bridge {
    #[expect(
        clippy::new_without_default,
        reason = "it makes something on the machine: nobody should get it by default"
    )]
    pub fn new() -> Bridge {
        for _ in 0..100 {
            let [x, y] = rand::random::<[u8; 2]>();
            if in_use(x, y) {
                continue;
            }
            // The name says the network: of two tests that draw the same one, only one gets the link.
            let link = format!("tsu{x}x{y}");
            if !succeeds(&["link", "add", &link, "type", "bridge"]) {
                continue;
            }
            let network = Network {
                link,
                x,
                y,
                ipv6: PathBuf::from("/proc/net/if_inet6").exists(),
                next: AtomicU8::new(2),
                made: Mutex::default(),
            };
            let bridge = Bridge(Arc::new(network));
            let Network { link, ipv6, .. } = &*bridge.0;
            ip(&["addr", "add", &format!("{}/24", bridge.address()), "dev", link]);
            if *ipv6 {
                let address = format!("{}/64", bridge.address_v6());
                ip(&["addr", "add", &address, "dev", link, "nodad"]);
            }
            ip(&["link", "set", link, "up"]);
            return bridge;
        }
        panic!("no free 10.x.y.0/24 on this machine");
    }

    /// Of this machine, as the pods see it.
    pub fn address(&self) -> IpAddr {
        self.0.address(1)
    }

    pub fn address_v6(&self) -> IpAddr {
        self.0.address_v6(1)
    }

    /// A pod with the next free address, up and reachable. The name must be unused on this bridge.
    pub fn pod(&self, name: &str) -> Pod {
        let network = Arc::clone(&self.0);
        let number = network.next.fetch_add(1, Ordering::SeqCst);
        assert!(number < 250, "a bridge has room for 248 pods");
        let namespace = format!("{}-{name}", network.link);
        ip(&["netns", "add", &namespace]);
        network
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(namespace.clone());
        let pod = Pod {
            handle: File::open(format!("/run/netns/{namespace}")).expect("the namespace was made"),
            name: name.to_owned(),
            namespace,
            number,
            network,
        };
        pod.set_up();
        pod
    }
}

impl Network {
    fn address(&self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, self.x, self.y, number))
    }

    fn address_v6(&self, number: u8) -> IpAddr {
        let [x, y, number] = [self.x, self.y, number].map(u16::from);
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x7473, x, y, 0, 0, 0, number))
    }
}

/// When the last pod and the bridge are gone: what is still there goes here.
impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.made.get_mut().unwrap_or_else(PoisonError::into_inner) {
            remove_namespace(namespace);
        }
        succeeds(&["link", "del", &self.link]);
    }
}

/// A network namespace with `lo`, an `eth0` on the bridge, and a default route to this machine. It goes with the value;
/// whoever still runs inside keeps running without a network.
pub struct Pod {
    name: String,
    namespace: String,
    number: u8,
    handle: File,
    network: Arc<Network>,
}

impl Pod {
    fn set_up(&self) {
        let Network { link, ipv6, .. } = &*self.network;
        let outer = format!("{link}v{}", self.number);
        let inside = |arguments: &[&str]| ip(&[&["-n", &self.namespace], arguments].concat());
        ip(&[
            "link",
            "add",
            &outer,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &self.namespace,
        ]);
        ip(&["link", "set", &outer, "master", link, "up"]);
        inside(&["link", "set", "lo", "up"]);
        inside(&["addr", "add", &format!("{}/24", self.address()), "dev", "eth0"]);
        if *ipv6 {
            let address = format!("{}/64", self.address_v6());
            inside(&["addr", "add", &address, "dev", "eth0", "nodad"]);
        }
        inside(&["link", "set", "eth0", "up"]);
        let gateway = self.network.address(1).to_string();
        inside(&["route", "add", "default", "via", &gateway]);
        if *ipv6 {
            let gateway = self.network.address_v6(1).to_string();
            inside(&["-6", "route", "add", "default", "via", &gateway]);
        }
    }

    /// As given to `Bridge::pod`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> IpAddr {
        self.network.address(self.number)
    }

    /// Set up only where this machine has IPv6: see `has_ipv6`.
    pub fn address_v6(&self) -> IpAddr {
        self.network.address_v6(self.number)
    }

    pub fn has_ipv6(&self) -> bool {
        self.network.ipv6
    }

    /// A command that runs inside, as root. The process is the program itself: signals and its id are the program's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// A command that runs inside as a user without privileges.
    pub fn command_as(&self, uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("setpriv");
        let id = uid.to_string();
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(program);
        command
    }

    /// Does `work` inside, on a thread of its own, and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            enter(&self.handle);
            work()
        };
        std::thread::scope(|scope| {
            let done = scope.spawn(inside).join();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A thread that lives inside.
    pub fn spawn_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let handle = self.handle.try_clone().expect("a descriptor more");
        std::thread::spawn(move || {
            enter(&handle);
            work()
        })
    }

    /// A listener on every address of the pod, IPv4 and IPv6; port 0 is a free one. Any thread may accept from it.
    pub fn listen(&self, port: u16) -> TcpListener {
        let every: IpAddr = if self.has_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        self.listen_on(SocketAddr::new(every, port))
            .unwrap_or_else(|error| panic!("port {port} of pod {}: {error}", self.name))
    }

    pub fn listen_on(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.run(|| TcpListener::bind(address))
    }

    /// A connection that starts inside; blocks the caller until it is there.
    pub fn connect(&self, address: SocketAddr) -> io::Result<std::net::TcpStream> {
        self.run(|| std::net::TcpStream::connect_timeout(&address, crate::eventually::LIMIT))
    }

    /// Names that processes inside find besides `localhost`: the pod's own /etc/hosts. For commands, not for threads.
    pub fn set_hosts(&self, hosts: &[(&str, IpAddr)]) {
        let folder = hosts_folder(&self.namespace);
        std::fs::create_dir_all(&folder).expect("root may write below /etc/netns");
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for (name, address) in hosts {
            text.push_str(&format!("{address} {name}\n"));
        }
        std::fs::write(folder.join("hosts"), text).expect("root may write below /etc/netns");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        remove_namespace(&self.namespace);
        let mut made = self.network.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|namespace| *namespace != self.namespace);
    }
}

fn hosts_folder(namespace: &str) -> PathBuf {
    PathBuf::from("/etc/netns").join(namespace)
}

/// The veth's outer end goes with the inner one. A process that still runs inside would keep both: the link is named.
fn remove_namespace(namespace: &str) {
    succeeds(&["-n", namespace, "link", "del", "eth0"]);
    succeeds(&["netns", "del", namespace]);
    std::fs::remove_dir_all(hosts_folder(namespace)).ok();
}

fn enter(handle: &File) {
    move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace that it made");
}

/// Whether this machine has a route to anything in 10.x.y.0/24 of its own.
fn in_use(x: u8, y: u8) -> bool {
    let subnet = format!("10.{x}.{y}.0/24");
    let output = Command::new("ip")
        .args(["-4", "route", "show", "table", "all", "root", &subnet])
        .output();
    !output.is_ok_and(|output| output.status.success() && output.stdout.is_empty())
}

fn succeeds(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("the tool `ip` starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn pods_reach_each_other_and_the_machine_over_both_families_and_leave_nothing_behind() {
        if !require_root() {
            return;
        }
        let bridge = Bridge::new();
        let (one, two) = (bridge.pod("one"), bridge.pod("two"));
        let listener = two.listen(8080);
        let server = std::thread::spawn(move || {
            for _ in 0..4 {
                let (mut stream, from) = listener.accept().unwrap();
                stream
                    .write_all(from.ip().to_canonical().to_string().as_bytes())
                    .unwrap();
            }
        });
        let ask = |mut stream: std::net::TcpStream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let at = |address| SocketAddr::new(address, 8080);
        assert_eq!(ask(one.connect(at(two.address())).unwrap()), one.address().to_string());
        let address = at(two.address());
        let from_machine = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(ask(from_machine), bridge.address().to_string());
        if one.has_ipv6() {
            let answer = ask(one.connect(at(two.address_v6())).unwrap());
            assert_eq!(answer, one.address_v6().to_string());
        } else {
            one.connect(at(two.address())).unwrap();
        }
        two.set_hosts(&[("self.example", two.address())]);
        let found = two
            .command_as(PROXY_UID, "getent")
            .args(["hosts", "self.example"])
            .output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        assert!(found.starts_with(&two.address().to_string()), "{found}");
        one.spawn_thread(move || std::net::TcpStream::connect(address).map(drop))
            .join()
            .unwrap()
            .unwrap();
        server.join().unwrap();

        let (link, namespace) = (bridge.0.link.clone(), two.namespace.clone());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _in_scope = (bridge, one, two);
            std::panic::panic_any("a test that fails");
        }));
        assert!(panicked.is_err());
        assert!(!succeeds(&["link", "show", &link]), "the bridge");
        assert!(
            !PathBuf::from(format!("/run/netns/{namespace}")).exists(),
            "the namespace"
        );
        assert!(!hosts_folder(&namespace).exists(), "its files");
    }
}
