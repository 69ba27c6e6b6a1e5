//! Every interleaving of a ring's writer and a reader, as loom sees it: no record is torn. `cargo xtask loom` runs these.
//!
//! The model that must fail proves that loom can see what the other rules out.

use loom::sync::Arc;
use loom::thread;

use super::ring::SeqRing;
use crate::handoff::sync::{AtomicU64, Ordering};

/// A ring of one record, so that every write is over what may be read; both words of a record say its number.
#[test]
fn loom_no_record_is_torn() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let ring = Arc::new(SeqRing::<2>::new(1));
        let written = Arc::clone(&ring);
        let writer = thread::spawn(move || (0..3).for_each(|number| written.push([number; 2])));
        for number in 0..2 {
            if let Some(words) = ring.read(number) {
                assert_eq!(words, [number; 2], "torn");
            }
        }
        writer.join().unwrap();
        assert_eq!((ring.next(), ring.read(2)), (3, Some([2; 2])));
    });
}

#[test]
#[should_panic(expected = "torn")]
fn loom_finds_records_that_are_torn_without_their_number() {
    loom::model(|| {
        let words = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let written = Arc::clone(&words);
        let writer = thread::spawn(move || written.iter().for_each(|word| word.store(1, Ordering::Release)));
        let [first, second] = words.each_ref().map(|word| word.load(Ordering::Acquire));
        assert_eq!(first, second, "torn");
        writer.join().unwrap();
    });
}
