//! Scenarios of the room as a whole: pools whose frames cross threads, and randomised runs against models.

use std::sync::mpsc;
use std::thread;

use bytes::Bytes;

use super::*;

/// Tests repeat a run by its seed.
pub(super) struct XorShift(u64);

impl XorShift {
    pub(super) fn new(seed: u64) -> XorShift {
        XorShift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// How many runs a random test makes: few in an interpreter, which takes a second for a millisecond.
pub(super) const fn runs(many: u64) -> u64 {
    if cfg!(miri) { many.div_ceil(100) } else { many }
}

/// How many steps a run has: fewer there, too.
pub(super) const fn steps(many: usize) -> usize {
    if cfg!(miri) { many.div_ceil(20) } else { many }
}

pub(super) fn pool(buffers: u16, buffer_size: u32) -> Pool {
    Pool::new(PoolConfig { buffers, buffer_size }).unwrap()
}

/// What a driver does: the kernel writes into a buffer and reports it.
fn receive(pool: &mut Pool, bid: u16, bytes: &[u8], kernel_keeps_rest: bool) -> Received {
    pool.fill(bid, bytes);
    pool.received(bid, bytes.len() as u32, kernel_keeps_rest)
}

/// A frame of a buffer of its own.
fn receive_frame(pool: &mut Pool, bytes: &[u8]) -> Frame {
    let bid = pool.take_free().unwrap().bid;
    let received = receive(pool, bid, bytes, false);
    RecvBuf::from_pool(pool, received).take_all()
}

fn is_full(pool: &Pool) -> bool {
    (pool.free_buffers(), pool.held_frames(), pool.held_bytes()) == (pool.buffers(), 0, 0)
}

mod pools {
    use super::*;

    #[test]
    fn a_buffer_fills_range_by_range_and_comes_back_when_all_are_released() {
        let mut pool = pool(2, 16);
        let given = pool.take_free().unwrap();
        assert_eq!((given.len, pool.free_buffers()), (16, 1));

        let hello = receive(&mut pool, given.bid, b"hello", true);
        let world = receive(&mut pool, given.bid, b"world!", false);
        assert_eq!((world.buf, world.off, world.len), (given.bid, 5, 6));
        assert_eq!((pool.bytes(&hello), pool.bytes(&world)), (&b"hello"[..], &b"world!"[..]));
        assert_eq!((pool.held_frames(), pool.held_bytes()), (2, 16));

        pool.release(world);
        assert_eq!(pool.bytes(&hello), b"hello");
        assert_eq!(pool.free_buffers(), 1);
        pool.release(hello);
        assert!(is_full(&pool));

        let again = pool.take_free().unwrap();
        let reused = receive(&mut pool, again.bid, b"new", false);
        assert_eq!((again.ptr, reused.off), (given.ptr, 0));
        pool.release(reused);
    }

    #[test]
    fn more_is_lent_when_half_is_used_up_and_never_beyond_the_bound() {
        let mut pool = pool(64, 16);
        pool.lend_at_most(4);
        let mut lent: Vec<u16> = Vec::new();
        for expected in [4, 8, 12, 12] {
            lent.extend(std::iter::from_fn(|| pool.take_free()).map(|given| given.bid));
            assert_eq!(lent.len(), expected);
            // More than half are left: it is enough.
            pool.lend_more_if_short(12);
            assert!(pool.take_free().is_none());
            for bid in lent.drain(..) {
                let received = receive(&mut pool, bid, b"received", false);
                pool.release(received);
            }
            pool.lend_more_if_short(12);
        }
    }

    #[test]
    fn a_buffer_the_kernel_keeps_is_not_free_without_references() {
        let mut pool = pool(1, 16);
        let bid = pool.take_free().unwrap().bid;
        let part = receive(&mut pool, bid, b"part", true);
        pool.release(part);
        assert!(pool.take_free().is_none());
        let end = pool.received(bid, 0, false);
        pool.release(end);
        assert!(is_full(&pool));
    }

    #[test]
    fn sizes_that_make_no_pool_are_refused() {
        for (buffers, buffer_size) in [(0, 16), (3, 16), (4, 0)] {
            assert!(Pool::new(PoolConfig { buffers, buffer_size }).is_err());
        }
    }

    #[test]
    #[should_panic(expected = "released more often than taken")]
    fn a_range_released_twice_is_noticed() {
        let mut pool = pool(1, 16);
        let bid = pool.take_free().unwrap().bid;
        let range = receive(&mut pool, bid, b"x", false);
        pool.release(range);
        pool.release(range);
    }

    #[test]
    #[should_panic(expected = "beyond the end of a buffer")]
    fn a_driver_that_reports_too_much_is_noticed() {
        let mut pool = pool(1, 16);
        let bid = pool.take_free().unwrap().bid;
        pool.received(bid, 17, false);
    }

    /// Random receives, takes, clones, releases and cross-thread drops: the bytes of every frame stay what
    /// they were, and the pool ends full.
    #[test]
    fn pools_end_full() {
        for seed in 0..runs(50) {
            random_run(seed);
        }
    }

    fn random_run(seed: u64) {
        let mut random = XorShift::new(seed);
        let mut pool = pool(8, 256);
        let (away, others) = mpsc::channel::<Frame>();
        let lane = seed.is_multiple_of(2).then(|| pool.return_lane());
        let other = thread::spawn(move || {
            if let Some(lane) = lane {
                lane.register();
            }
            for frame in others {
                drop(frame);
            }
        });

        let mut with_kernel: Vec<(u16, usize)> = Vec::new();
        let mut held: Vec<(Frame, Vec<u8>)> = Vec::new();
        for _ in 0..steps(2000) {
            if random.below(4) == 0 {
                pool.clear_current();
            } else {
                pool.set_current();
            }
            match random.below(6) {
                0 => with_kernel.extend(pool.take_free().map(|given| (given.bid, 0))),
                1 | 2 if !with_kernel.is_empty() => {
                    let at = random.below(with_kernel.len());
                    let (bid, head) = with_kernel[at];
                    let bytes: Vec<u8> = (0..random.below(256 - head + 1)).map(|_| random.below(256) as u8).collect();
                    let keeps = head + bytes.len() < 256 && random.below(4) > 0;
                    let received = receive(&mut pool, bid, &bytes, keeps);
                    assert_eq!(received.off as usize, head);
                    with_kernel[at].1 += bytes.len();
                    if !keeps {
                        with_kernel.swap_remove(at);
                    }
                    let mut buf = RecvBuf::from_pool(&mut pool, received);
                    let cut = random.below(bytes.len() + 1);
                    held.push((buf.take(cut), bytes[..cut].to_vec()));
                    if let Unread::InPool(rest) = buf.finish() {
                        assert_eq!(pool.bytes(&rest), &bytes[cut..]);
                        pool.release(rest);
                    }
                }
                3 if !held.is_empty() => {
                    let (frame, bytes) = &held[random.below(held.len())];
                    let start = random.below(bytes.len() + 1);
                    let part = (frame.slice(start..), bytes[start..].to_vec());
                    held.push(part);
                }
                4 if !held.is_empty() => {
                    let (frame, bytes) = held.swap_remove(random.below(held.len()));
                    assert_eq!(*frame, *bytes);
                    if random.below(2) == 0 {
                        away.send(frame).unwrap();
                    }
                }
                _ => pool.collect_returns(),
            }
        }
        for (frame, bytes) in held {
            assert_eq!(*frame, *bytes, "seed {seed}");
        }
        drop(away);
        other.join().unwrap();
        pool.collect_returns();
        for (bid, _) in with_kernel {
            let end = pool.received(bid, 0, false);
            pool.release(end);
        }
        assert!(is_full(&pool), "seed {seed}: {} frames held", pool.held_frames());
    }
}

mod frames {
    use super::*;

    fn assert_thread_safe<T: Send + Sync + Clone + 'static>() {}

    #[test]
    fn a_frame_is_four_words_and_goes_to_any_thread() {
        assert_thread_safe::<Frame>();
        assert_eq!((size_of::<Frame>(), size_of::<Option<Frame>>()), (32, 40));
    }

    #[test]
    fn on_the_shards_thread_parts_and_clones_share_the_memory() {
        let mut pool = pool(1, 64);
        pool.set_current();
        let mut frame = receive_frame(&mut pool, b"one two three");
        let start = frame.as_ptr();
        let one = frame.split_to(3);
        let two = frame.slice(1..4);
        let three = frame.clone().slice(5..);
        assert_eq!((&*one, &*two, &*three), (&b"one"[..], &b"two"[..], &b"three"[..]));
        assert_eq!((one.as_ptr(), three.as_ptr()), (start, start.wrapping_add(8)));
        assert_eq!(pool.held_frames(), 4);
        drop((frame, one, two));
        assert_eq!((pool.held_frames(), pool.free_buffers()), (1, 0));
        drop(three);
        assert!(is_full(&pool), "given back without collecting");
    }

    #[test]
    fn on_another_thread_a_clone_is_a_copy_and_the_original_goes_home() {
        let mut pool = pool(1, 64);
        let frame = receive_frame(&mut pool, b"bytes");
        let copies = thread::spawn(move || {
            let mut frame = frame;
            [frame.clone(), frame.slice(1..=2), frame.split_to(2), frame.clone().detach()]
        });
        let copies = copies.join().unwrap();
        assert_eq!(copies.each_ref().map(|copy| &**copy), [&b"bytes"[..], b"yt", b"by", b"tes"]);
        assert!(copies.iter().all(|copy| !copy.is_pooled()));
        assert_eq!(pool.held_frames(), 1, "not collected yet");
        pool.collect_returns();
        assert!(is_full(&pool));
    }

    #[test]
    fn a_shared_frame_is_the_same_memory_in_every_clone_on_every_thread() {
        let mut pool = pool(1, 64);
        let frame = receive_frame(&mut pool, b"to everyone");
        let start = frame.as_ptr() as usize;
        let frame = frame.share();
        let clones: Vec<Frame> = thread::spawn(move || vec![frame.clone(), frame.clone(), frame]).join().unwrap();
        assert!(clones.iter().all(|clone| clone.as_ptr() as usize == start));
        assert_eq!(pool.held_frames(), 1);
        drop(clones);
        pool.collect_returns();
        assert!(is_full(&pool));
    }

    #[test]
    fn bytes_pass_through_without_a_copy() {
        let bytes = Bytes::from(vec![7; 100]);
        let start = bytes.as_ptr();
        let mut frame = Frame::from(bytes);
        frame.advance(10);
        frame.truncate(50);
        let back = Bytes::from(frame);
        assert_eq!((back.as_ptr(), back.len()), (start.wrapping_add(10), 50));

        let mut pool = pool(1, 64);
        let frame = receive_frame(&mut pool, b"pooled");
        let start = frame.as_ptr();
        let bytes = Bytes::from(frame);
        assert_eq!((bytes.as_ptr(), &*bytes), (start, &b"pooled"[..]));
        drop(bytes);
        pool.collect_returns();
        assert!(is_full(&pool));
    }

    #[test]
    fn frames_of_every_origin_compare_and_print_by_their_bytes() {
        let frames = [Frame::from(&b"a\x00"[..]), Frame::from(b"a\x00".to_vec()), Frame::copy_from_slice(b"a\x00")];
        for frame in &frames {
            assert_eq!((frame, format!("{frame:?}")), (&frames[0], r#"Frame(b"a\x00")"#.to_owned()));
        }
        let long = format!("{:?}", Frame::from(vec![b'x'; 100]));
        assert!(long.ends_with("x\".. of 100 bytes)"), "{long}");
        assert!(Frame::default().is_empty());
    }

    #[test]
    #[should_panic(expected = "of 3 bytes")]
    fn a_part_beyond_the_end_is_refused() {
        let mut pool = pool(1, 64);
        pool.set_current();
        let _ = receive_frame(&mut pool, b"abc").slice(2..4);
    }
}

mod returns_from_other_threads {
    use super::*;

    #[test]
    fn a_registered_thread_returns_what_it_dropped_when_it_says_so() {
        let mut pool = pool(4, 64);
        let frames: Vec<Frame> = (0..4).map(|_| receive_frame(&mut pool, b"x")).collect();
        let lane = pool.return_lane();
        let (say, hear) = mpsc::channel();
        let (dropped, collect) = mpsc::channel();
        let service = thread::spawn(move || {
            lane.register();
            drop(frames);
            dropped.send(()).unwrap();
            hear.recv().unwrap();
            flush_returns();
            dropped.send(()).unwrap();
            hear.recv().unwrap();
        });
        collect.recv().unwrap();
        pool.collect_returns();
        assert_eq!(pool.held_frames(), 4, "in the batch");
        say.send(()).unwrap();
        collect.recv().unwrap();
        pool.collect_returns();
        assert!(is_full(&pool));
        say.send(()).unwrap();
        service.join().unwrap();
    }

    #[test]
    fn a_thread_that_ends_returns_the_rest() {
        let mut pool = pool(4, 64);
        let frames: Vec<Frame> = (0..3).map(|_| receive_frame(&mut pool, b"x")).collect();
        let lane = pool.return_lane();
        thread::spawn(move || {
            lane.register();
            drop(frames);
        })
        .join()
        .unwrap();
        pool.collect_returns();
        assert!(is_full(&pool));
    }

    #[test]
    fn a_full_lane_loses_nothing() {
        // More entries than the lane holds: alternating buffers make every frame an entry.
        const TURNS: u32 = if cfg!(miri) { 600 } else { 4096 };
        let mut pool = pool(2, 4096);
        let mut frames = Vec::new();
        let bids = [pool.take_free().unwrap().bid, pool.take_free().unwrap().bid];
        for turn in 0..TURNS {
            for bid in bids {
                let received = receive(&mut pool, bid, b"x", turn < TURNS - 1);
                frames.push(RecvBuf::from_pool(&mut pool, received).take_all());
            }
        }
        let lane = pool.return_lane();
        thread::spawn(move || {
            lane.register();
            drop(frames);
        })
        .join()
        .unwrap();
        pool.collect_returns();
        assert!(is_full(&pool));
    }

    #[test]
    fn several_pools_on_one_thread_do_not_mix() {
        // As the simulator runs them: each is current while its shard is stepped.
        let (mut first, mut second) = (pool(1, 64), pool(1, 64));
        first.set_current();
        let of_first = receive_frame(&mut first, b"1");
        first.clear_current();
        second.set_current();
        let of_second = receive_frame(&mut second, b"2");
        drop(of_first);
        drop(of_second);
        assert!(is_full(&second));
        assert_eq!(first.held_frames(), 1);
        first.clear_current();
        first.collect_returns();
        assert!(is_full(&first));
    }
}

mod pools_that_go_first {
    use super::*;

    #[test]
    fn frames_keep_their_bytes_on_the_same_thread() {
        let mut pool = pool(2, 64);
        pool.set_current();
        let frames = [receive_frame(&mut pool, b"still"), receive_frame(&mut pool, b"here")];
        drop(pool);
        let [still, here] = frames;
        let more = here.clone();
        assert_eq!((&*still, &*here, more.is_pooled()), (&b"still"[..], &b"here"[..], false));
    }

    #[test]
    fn frames_keep_their_bytes_on_other_threads_registered_or_not() {
        for registered in [false, true] {
            let mut pool = pool(8, 64);
            let frames: Vec<Frame> = (0..8).map(|_| receive_frame(&mut pool, b"outlives the pool")).collect();
            let lane = registered.then(|| pool.return_lane());
            let (gone, hear) = mpsc::channel();
            let other = thread::spawn(move || {
                if let Some(lane) = lane {
                    lane.register();
                }
                let mut frames = frames.into_iter();
                drop(frames.by_ref().take(3).collect::<Vec<_>>());
                hear.recv().unwrap();
                flush_returns();
                for frame in frames {
                    assert_eq!(&*frame, b"outlives the pool");
                }
                flush_returns();
            });
            drop(pool);
            gone.send(()).unwrap();
            other.join().unwrap();
        }
    }

    /// The pool goes at any moment of four threads' dropping and flushing. The memory must
    /// go once, and not before the last read: AddressSanitizer and the accounting assertions judge.
    #[test]
    fn the_end_of_a_pool_races_with_returns() {
        const TURNS: u8 = if cfg!(miri) { 13 } else { 128 };
        const SHARE: usize = if cfg!(miri) { 20 } else { 200 };
        for round in 0..runs(300) {
            let mut pool = pool(8, 1024);
            let bids: Vec<u16> = std::iter::from_fn(|| pool.take_free()).map(|p| p.bid).collect();
            let mut frames = Vec::new();
            for turn in 0..TURNS {
                for bid in &bids {
                    let received = receive(&mut pool, *bid, &[turn; 8], turn < TURNS - 1);
                    frames.push(RecvBuf::from_pool(&mut pool, received).take_all());
                }
            }
            let watch = pool.watch();
            let others: Vec<_> = (0..4)
                .map(|other| {
                    let share = frames.split_off(frames.len() - SHARE);
                    let lane = (other % 2 == 0).then(|| pool.return_lane());
                    thread::spawn(move || {
                        if let Some(lane) = lane {
                            lane.register();
                        }
                        for (index, frame) in share.into_iter().enumerate() {
                            assert!(frame.iter().all(|byte| *byte == frame[0]));
                            drop(frame);
                            if index % 7 == 0 {
                                flush_returns();
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..round % 40 {
                pool.collect_returns();
            }
            drop(pool);
            drop(frames);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(watch.strong_count(), 0, "round {round}: the memory stayed");
        }
    }
}

mod receive_buffers {
    use super::*;

    #[test]
    fn everything_read_releases_the_range() {
        let mut pool = pool(1, 64);
        let bid = pool.take_free().unwrap().bid;
        let received = receive(&mut pool, bid, b"GET /", false);
        let mut buf = RecvBuf::from_pool(&mut pool, received);
        buf.consume(4);
        assert_eq!((&*buf, buf.len()), (&b"/"[..], 1));
        buf.consume(1);
        assert_eq!(buf.finish(), Unread::Nothing);
        assert!(is_full(&pool));
    }

    #[test]
    fn what_is_left_in_the_pool_comes_back_in_front_of_the_next_bytes() {
        let mut pool = pool(1, 64);
        pool.set_current();
        let bid = pool.take_free().unwrap().bid;
        let first = receive(&mut pool, bid, b"line one\nline", true);
        let mut buf = RecvBuf::from_pool(&mut pool, first);
        let line = buf.take(9);
        let Unread::InPool(rest) = buf.finish() else { panic!("4 bytes are left") };
        let mut remainder = Remainder::default();
        remainder.append(pool.bytes(&rest));
        pool.release(rest);
        assert_eq!((&*line, pool.held_frames()), (&b"line one\n"[..], 1));

        let second = receive(&mut pool, bid, b" two\nli", false);
        remainder.append(pool.bytes(&second));
        pool.release(second);
        let mut buf = RecvBuf::from_remainder(&mut remainder);
        let line_two = buf.take(9);
        assert_eq!((&*line_two, line_two.is_pooled()), (&b"line two\n"[..], false));
        assert_eq!(buf.finish(), Unread::InRemainder(2));

        let mut buf = RecvBuf::from_remainder(&mut remainder);
        assert_eq!(*buf.take_all(), *b"li");
        assert_eq!(buf.finish(), Unread::Nothing);
        drop(line);
        assert!(is_full(&pool));
    }

    #[test]
    fn a_spent_buffer_is_empty_and_its_last_frame_keeps_the_range() {
        let mut pool = pool(1, 64);
        pool.set_current();
        let bid = pool.take_free().unwrap().bid;
        let received = receive(&mut pool, bid, b"all", false);
        let mut buf = RecvBuf::from_pool(&mut pool, received);
        let all = buf.take_all();
        buf.consume(0);
        assert!(buf.is_empty() && buf.take_all().is_empty());
        assert_eq!(buf.finish(), Unread::Nothing);
        assert_eq!((&*all, pool.held_frames()), (&b"all"[..], 1));
        drop(all);
        assert!(is_full(&pool));
    }

    #[test]
    fn a_part_of_the_unread_bytes_is_a_frame_of_their_memory() {
        let mut pool = pool(1, 64);
        pool.set_current();
        let bid = pool.take_free().unwrap().bid;
        let received = receive(&mut pool, bid, b"one\ntwo\n", false);
        let mut buf = RecvBuf::from_pool(&mut pool, received);
        let (one, two) = (buf.frame(&buf[..3]), buf.frame(&buf[4..7]));
        assert_eq!(
            (&*one, &*two, one.as_ptr(), two.as_ptr()),
            (&b"one"[..], &b"two"[..], buf.as_ptr(), buf[4..].as_ptr())
        );
        let (elsewhere, nothing) = (buf.frame(b"one"), buf.frame(&buf[..0]));
        assert_eq!((&*elsewhere, elsewhere.is_pooled()), (&b"one"[..], false));
        assert!(nothing.is_empty() && !nothing.is_pooled());
        buf.consume(8);
        assert_eq!(buf.finish(), Unread::Nothing);
        assert_eq!(pool.held_frames(), 2);
        drop((one, two));
        assert!(is_full(&pool));

        let mut remainder = Remainder::default();
        remainder.append(b"three\n");
        let buf = RecvBuf::from_remainder(&mut remainder);
        let three = buf.frame(&buf[..5]);
        assert_eq!((&*three, three.is_pooled()), (&b"three"[..], false));
    }

    #[test]
    fn a_buffer_dropped_in_a_panic_is_released() {
        let mut pool = pool(1, 64);
        let bid = pool.take_free().unwrap().bid;
        let received = receive(&mut pool, bid, b"boom", false);
        drop(RecvBuf::from_pool(&mut pool, received));
        assert!(is_full(&pool));
    }

    #[test]
    #[should_panic(expected = "read 3 of 2 bytes")]
    fn reading_more_than_there_is_is_refused() {
        let mut remainder = Remainder::default();
        remainder.append(b"ab");
        RecvBuf::from_remainder(&mut remainder).consume(3);
    }

    #[test]
    fn a_remainder_agrees_with_a_model_and_stays_in_proportion() {
        for seed in 0..runs(20) {
            let mut random = XorShift::new(seed);
            let (mut remainder, mut model) = (Remainder::default(), Vec::new());
            let mut peak = 0;
            for step in 0..steps(2000) {
                let bytes = vec![step as u8; random.below(100)];
                remainder.append(&bytes);
                model.extend_from_slice(&bytes);
                peak = peak.max(model.len());
                let count = random.below(model.len() + 1).min(random.below(150));
                let mut buf = RecvBuf::from_remainder(&mut remainder);
                assert_eq!(*buf.take(count), model[..count], "seed {seed}");
                buf.finish();
                model.drain(..count);
                assert_eq!((remainder.unread(), remainder.len()), (&model[..], model.len()));
            }
            assert!(remainder.held_bytes() <= 4 * peak, "{} for {peak}", remainder.held_bytes());
        }
    }
}
