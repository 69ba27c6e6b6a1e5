//! CRC32c (Castagnoli, RFC 4960 appendix B), as the PP2_TYPE_CRC32C TLV uses it (section 2.2.3).
//!
//! A byte-wise table: it runs once per connection over at most a few kilobytes.

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

/// The checksum of `header` with the 4 bytes at `checksum_at` taken as zero.
pub(crate) fn of_header(header: &[u8], checksum_at: usize) -> u32 {
    let crc = update(!0, &header[..checksum_at]);
    let crc = update(crc, &[0; 4]);
    !update(crc, &header[checksum_at + 4..])
}

fn update(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::update;

    #[test]
    fn known_sums() {
        let check = |bytes: &[u8], expect| assert_eq!(!update(!0, bytes), expect);
        check(b"", 0);
        check(b"123456789", 0xe306_9283); // the check value of CRC-32/ISCSI
        check(&[0; 32], 0x8a91_36aa); // RFC 3720 appendix B.4
        check(&[0xff; 32], 0x62a8_ab43); // RFC 3720 appendix B.4
    }
}
