//! Keeps all cores awake.
//!
//! A core that halts for want of work is woken through the host, where there is one, and that may take longer than all that
//! is measured. One that must not sleep polls, and is there at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

/// As long as this is held, an idle core polls (Documentation/power/pm_qos_interface.rst).
pub struct Awake(#[expect(dead_code, reason = "the request ends when it is closed")] File);

impl Awake {
    pub fn hold() -> io::Result<Self> {
        const MICROSECONDS: i32 = 0;
        let mut request = OpenOptions::new().write(true).open("/dev/cpu_dma_latency")?;
        request.write_all(&MICROSECONDS.to_ne_bytes())?;
        Ok(Self(request))
    }
}
