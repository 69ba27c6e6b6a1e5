//! Listening sockets that somebody else made: a service manager that passes them to the process it starts.
//!
//! It owns the protocol of sd_listen_fds(3) and the check that a descriptor is what a listener needs. Invariant: the
//! descriptors of one start are taken over once, by whoever asks first; nobody else in the process may own them.
//! It must not make or bind a socket.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};
use socket2::SockRef;

use super::Addr;

/// The first descriptor passed: behind the standard streams.
const FIRST: RawFd = 3;
/// More descriptors than anybody passes: what is above is a mistake, not a request.
const MOST: RawFd = 1024;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// A descriptor that a service manager passed to this process.
#[derive(Debug)]
pub struct Activated {
    /// Its name (`FileDescriptorName=`); empty if the manager gave none.
    pub name: String,
    /// The descriptor, closed on exec from now on.
    pub fd: OwnedFd,
}

/// Takes over what a service manager passed to this process (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`), in its order.
/// Nothing when there is none, when it was meant for another process, and when it was taken already.
///
/// Call it before anything else might open descriptors: by the protocol the numbers from 3 on are the caller's alone.
///
/// # Errors
///
/// A number that is no open descriptor, or variables that make no sense.
pub fn activated() -> io::Result<Vec<Activated>> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let count = passed(&variable("LISTEN_PID"), &variable("LISTEN_FDS"), std::process::id())?;
    if count == 0 || TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':');
    (FIRST..FIRST + count)
        .map(|number| {
            close_on_exec(number)?;
            // SAFETY: it is open, or `close_on_exec` had failed; the protocol gives it to this process, whose one owner of
            // it is the first caller, as `TAKEN` says.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            Ok(Activated { name: names.next().unwrap_or_default().to_owned(), fd })
        })
        .collect()
}

/// How many descriptors were passed to the process `me`.
fn passed(pid: &str, count: &str, me: u32) -> io::Result<RawFd> {
    if pid.is_empty() || count.is_empty() || pid.parse() != Ok(me) {
        return Ok(0);
    }
    let number = count.parse().ok().filter(|count| (0..=MOST).contains(count));
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("LISTEN_FDS is {count:?}")))
}

fn close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: takes and gives numbers; fails with EBADF for one that is not open.
    match unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The address of a stream socket that listens.
///
/// # Errors
///
/// Any other descriptor.
pub fn listening_addr(socket: &OwnedFd) -> io::Result<Addr> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let number = socket.as_raw_fd();
    if sockopt::socket_type(socket)? != SocketType::STREAM || !sockopt::socket_acceptconn(socket)? {
        return Err(wrong(format!("descriptor {number} is no stream socket that listens")));
    }
    let addr = SockRef::from(socket).local_addr()?;
    match sockopt::socket_domain(socket)? {
        AddressFamily::INET | AddressFamily::INET6 => addr.as_socket().map(Addr::Tcp),
        AddressFamily::UNIX => Some(Addr::Unix(addr.as_pathname().map(Into::into).unwrap_or_default())),
        _ => None,
    }
    .ok_or_else(|| wrong(format!("descriptor {number} is neither TCP nor Unix")))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn only_what_was_passed_to_this_process_counts() {
        let check = |pid, count, expect: Result<RawFd, ()>| {
            assert_eq!(passed(pid, count, 42).map_err(drop), expect, "{pid} {count}");
        };
        check("", "", Ok(0));
        check("42", "2", Ok(2));
        check("41", "2", Ok(0));
        check("42", "", Ok(0));
        check("42", "-1", Err(()));
        check("42", "many", Err(()));
        check("42", "1025", Err(()));
    }

    #[test]
    fn only_a_stream_socket_that_listens_will_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(addr).unwrap();
        assert_eq!(listening_addr(&listener.into()).unwrap(), Addr::Tcp(addr));
        for other in [stream.into(), UdpSocket::bind("127.0.0.1:0").unwrap().into()] {
            let error = listening_addr(&other).unwrap_err().to_string();
            assert!(error.contains("is no stream socket that listens"), "{error}");
        }
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert_eq!(listening_addr(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }
}
