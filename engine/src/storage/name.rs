//! Names of files: parsed once, so that no operation can leave its directory.

use std::fmt;
use std::str::FromStr;

use super::NotSubmitted;

/// NAME_MAX of Linux file systems, in bytes.
const LONGEST: usize = 255;

/// A name within a storage's directory: no path, and nothing hidden.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileName(String);

impl FromStr for FileName {
    type Err = NotSubmitted;

    fn from_str(name: &str) -> Result<FileName, NotSubmitted> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.bytes().all(fits) {
            true => Ok(FileName(name.to_owned())),
            false => Err(NotSubmitted::Name),
        }
    }
}

impl FileName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_names() {
        let long = "x".repeat(256);
        for bad in ["", ".", "..", ".lock", "a/b", "/etc/passwd", "../x", "a\0b", "a b", "ä", &long] {
            assert_eq!(bad.parse::<FileName>(), Err(NotSubmitted::Name), "{bad:?}");
        }
        for good in ["a", "log-000017.wal", "A_b.c", "a..b", &long[1..]] {
            assert_eq!(good.parse::<FileName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
    }
}
