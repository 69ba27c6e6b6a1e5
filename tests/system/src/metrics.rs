//! The server's own figures, asked over `/metrics` as any collector would.
//!
//! Invariant: one connection serves all questions while it lasts, so that a server without a free descriptor can be asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::client::connect;

/// A connection to the metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    addr: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

/// The figures of one moment.
#[derive(Debug)]
pub struct Figures(String);

impl Metrics {
    pub(crate) fn of(addr: SocketAddr) -> Metrics {
        Metrics { addr, stream: None }
    }

    /// All figures now.
    pub fn figures(&mut self) -> Figures {
        // The server closes connections that were quiet for half a minute.
        if let Some(stream) = &mut self.stream
            && let Some(text) = ask(stream)
        {
            return Figures(text);
        }
        let stream = self.stream.insert(BufReader::new(connect(self.addr)));
        Figures(ask(stream).expect("the server gives its metrics"))
    }

    /// The sum of a metric over its samples.
    pub fn sum(&mut self, name: &str) -> u64 {
        self.figures().sum(name, "")
    }

    /// The sum over the samples with a label, given as `name="value"`.
    pub fn sum_of(&mut self, name: &str, label: &str) -> u64 {
        self.figures().sum(name, label)
    }

    /// Connections now, without this one.
    pub fn connections(&mut self) -> u64 {
        self.sum("megamux_connections") - 1
    }
}

impl Figures {
    /// The sum of a metric over the samples with a label; over all if `label` is empty.
    ///
    /// # Panics
    ///
    /// When there is no such sample: a figure that is not there says nothing.
    pub fn sum(&self, name: &str, label: &str) -> u64 {
        let values: Vec<f64> = self
            .0
            .lines()
            .filter_map(|line| {
                let (sample, value) = line.rsplit_once(' ')?;
                let (of, labels) = sample.split_once('{').unwrap_or((sample, ""));
                (of == name && labels.contains(label)).then(|| value.parse().ok())?
            })
            .collect();
        assert!(!values.is_empty(), "no sample of {name} {label}:\n{}", self.0);
        values.iter().sum::<f64>() as u64
    }
}

fn ask(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";
    stream.get_mut().write_all(request).ok()?;
    let mut length = None;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>().expect("a length"));
        }
    }
    let mut body = vec![0; length.expect("the answer says its length")];
    stream.read_exact(&mut body).ok()?;
    Some(String::from_utf8(body).expect("metrics are text"))
}
