//! The stack of another process's thread, whatever it does: running, or blocked in the kernel.
//!
//! The thread is stopped (ptrace) only while its registers and the top of its stack are copied: well below a millisecond. A wait in
//! the kernel that this interrupts is taken up again by the kernel, or by the driver. Frames are found by the unwind tables of the mapped
//! files, so neither frame pointers nor another program are needed. Invariant: the thread goes on, however this ends.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use addr2line::Loader;
use anyhow::{Result, bail};
use framehop::{Module, Unwinder};
use object::{Object, ObjectSection};

use crate::process::permission;

/// The most that is copied of a stack.
const STACK: u64 = 256 * 1024;
/// Frames that are looked for: recursion has no end.
const FRAMES: usize = 128;

/// A function that was entered and not yet left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub function: String,
    /// `file:line`, if the binary knows.
    pub place: Option<String>,
}

/// What a thread is doing.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// The kernel's function it waits in, if it waits.
    pub waits_in: Option<String>,
    /// From the innermost out.
    pub frames: Vec<Frame>,
}

/// Where a process has which file, with what is needed to find frames and names in it.
pub struct Symbols {
    process: u32,
    unwinder: Native,
    files: Vec<Mapped>,
}

struct Mapped {
    path: String,
    range: Range<u64>,
    /// What the addresses in the file are ahead of those in the process.
    base: u64,
    loader: OnceCell<Option<Loader>>,
}

#[cfg(target_arch = "x86_64")]
type Native = framehop::x86_64::UnwinderX86_64<Arc<[u8]>>;
#[cfg(target_arch = "x86_64")]
type Cache = framehop::x86_64::CacheX86_64;
#[cfg(target_arch = "aarch64")]
type Native = framehop::aarch64::UnwinderAarch64<Arc<[u8]>>;
#[cfg(target_arch = "aarch64")]
type Cache = framehop::aarch64::CacheAarch64;

/// A stopped thread's registers and the top of its stack.
struct Snapshot {
    pc: u64,
    registers: <Native as Unwinder>::UnwindRegs,
    bottom: u64,
    stack: Vec<u8>,
}

impl Symbols {
    /// Reads what is mapped into the process: before it is needed, for it takes a while.
    pub fn of(process: u32) -> Result<Symbols> {
        let maps = fs::read_to_string(format!("/proc/{process}/maps"))
            .map_err(|error| anyhow::anyhow!("cannot look into process {process}: {error}; {}", permission()))?;
        let mut symbols = Symbols { process, unwinder: Native::new(), files: Vec::new() };
        let mut first = HashMap::new();
        for map in maps.lines().filter_map(Mapping::read) {
            let begin = *first.entry(map.path).or_insert(map.range.start);
            if map.is_code {
                // Without it there is one name less, or the stack ends there.
                let _ = symbols.add(&map, begin);
            }
        }
        if symbols.files.is_empty() {
            bail!("process {process} has no readable binary: {}", permission());
        }
        Ok(symbols)
    }

    fn add(&mut self, map: &Mapping<'_>, begin: u64) -> Result<()> {
        // Also what was replaced or deleted since, and what only the process's own mounts have.
        let path = format!("/proc/{}/map_files/{:x}-{:x}", self.process, map.range.start, map.range.end);
        let path =
            if fs::exists(&path).unwrap_or(false) { path } else { format!("/proc/{}/root{}", self.process, map.path) };
        let bytes = fs::read(&path).or_else(|_| fs::read(map.path))?;
        let object = object::File::parse(&*bytes)?;
        let section = |name: &str| object.section_by_name(name);
        let data = |name: &str| Some(Arc::from(section(name)?.uncompressed_data().ok()?.as_ref()));
        let at = |name: &str| section(name).map(|section| section.address()..section.address() + section.size());
        let info = framehop::ExplicitModuleSectionInfo::<Arc<[u8]>> {
            base_svma: object.relative_address_base(),
            text_svma: at(".text"),
            text: data(".text"),
            got_svma: at(".got"),
            eh_frame_svma: at(".eh_frame"),
            eh_frame: data(".eh_frame"),
            eh_frame_hdr_svma: at(".eh_frame_hdr"),
            eh_frame_hdr: data(".eh_frame_hdr"),
            debug_frame: data(".debug_frame"),
            ..Default::default()
        };
        // A binary at a fixed address is mapped where it says; others are mapped from zero on.
        let base = if object.kind() == object::ObjectKind::Executable { 0 } else { begin };
        self.unwinder.add_module(Module::new(map.path.to_owned(), map.range.clone(), base, info));
        let loader = OnceCell::new();
        let path = if fs::exists(map.path).unwrap_or(false) { map.path.to_owned() } else { path };
        self.files.push(Mapped { path, range: map.range.clone(), base, loader });
        Ok(())
    }

    /// What a thread is doing now.
    pub fn stack(&self, thread: u32) -> Result<Stack> {
        // First, because a stopped thread waits for us.
        let waits_in = fs::read_to_string(format!("/proc/{}/task/{thread}/wchan", self.process));
        let waits_in = waits_in.ok().filter(|name| !name.is_empty() && name != "0");
        let taken = snapshot(self.process, thread).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => anyhow::anyhow!("may not stop thread {thread}: {}", permission()),
            Some(libc::ESRCH) => anyhow::anyhow!("thread {thread} is gone"),
            _ => anyhow::anyhow!("cannot read thread {thread}: {error}"),
        })?;
        let mut read = |at: u64| {
            let begin = at.checked_sub(taken.bottom).ok_or(())? as usize;
            let word = taken.stack.get(begin..begin + 8).ok_or(())?;
            Ok(u64::from_ne_bytes(word.try_into().map_err(|_| ())?))
        };
        let mut cache = Cache::default();
        let mut addresses = self.unwinder.iter_frames(taken.pc, taken.registers, &mut cache, &mut read);
        let mut stack = Stack { waits_in, frames: Vec::new() };
        while let Ok(Some(address)) = addresses.next()
            && stack.frames.len() < FRAMES
        {
            self.name(address.address_for_lookup(), &mut stack.frames);
        }
        Ok(stack)
    }

    /// The function at an address, after those that were inlined there.
    fn name(&self, address: u64, frames: &mut Vec<Frame>) {
        let unknown = |file: &str| Frame { function: format!("{address:#x} ({file})"), place: None };
        let Some(file) = self.files.iter().find(|file| file.range.contains(&address)) else {
            return frames.push(unknown("nowhere"));
        };
        let Some(loader) = file.loader.get_or_init(|| Loader::new(&file.path).ok()) else {
            return frames.push(unknown(&file.path));
        };
        let probe = address - file.base;
        let before = frames.len();
        if let Ok(mut found) = loader.find_frames(probe) {
            while let Ok(Some(frame)) = found.next() {
                let Some(name) = frame.function.as_ref().and_then(|name| name.demangle().ok()) else { continue };
                let place = frame.location.and_then(|at| Some(format!("{}:{}", at.file?, at.line?)));
                frames.push(Frame { function: plain(&name), place });
            }
        }
        if frames.len() == before {
            let symbol = loader.find_symbol(probe).map(|name| format!("{:#}", rustc_demangle::demangle(name)));
            frames
                .push(symbol.map_or_else(|| unknown(&file.path), |name| Frame { function: plain(&name), place: None }));
        }
    }
}

/// Without the hash of Rust's older mangling.
fn plain(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path.to_owned(),
        _ => name.to_owned(),
    }
}

/// A line of `/proc/PID/maps` that maps a file.
struct Mapping<'a> {
    range: Range<u64>,
    is_code: bool,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    /// `begin-end perms offset device inode path`
    fn read(line: &'a str) -> Option<Mapping<'a>> {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let path = &rest[rest.find('/')?..];
        let number = |text| u64::from_str_radix(text, 16).ok();
        let is_code = rest.as_bytes().get(2) == Some(&b'x');
        Some(Mapping { range: number(begin)?..number(end)?, is_code, path: path.trim_end_matches(" (deleted)") })
    }
}

/// Stops a thread, copies what unwinding needs, and lets it go on.
fn snapshot(process: u32, thread: u32) -> io::Result<Snapshot> {
    let stopped = Stopped::stop(thread as libc::pid_t)?;
    let (pc, sp, registers) = stopped.registers()?;
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let mut stack = vec![0; STACK as usize];
    // The stack may end before; what is above it need not be there.
    let mut filled = 0;
    while filled < stack.len() {
        match memory.read_at(&mut stack[filled..], sp + filled as u64) {
            Ok(count @ 1..) => filled += count,
            _ => break,
        }
    }
    drop(stopped);
    stack.truncate(filled);
    Ok(Snapshot { pc, registers, bottom: sp, stack })
}

/// A thread that stands still as long as this lives.
struct Stopped(libc::pid_t);

impl Stopped {
    fn stop(thread: libc::pid_t) -> io::Result<Stopped> {
        ptrace(libc::PTRACE_SEIZE, thread, 0, 0)?;
        // From here on it is detached whatever happens.
        let stopped = Stopped(thread);
        ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0)?;
        loop {
            let mut status = 0;
            // SAFETY: `status` is ours to be written.
            let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
            match waited {
                _ if waited == thread && libc::WIFSTOPPED(status) => return Ok(stopped),
                _ if waited == thread => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn registers(&self) -> io::Result<(u64, u64, <Native as Unwinder>::UnwindRegs)> {
        use framehop::x86_64::{Reg, UnwindRegsX86_64};
        let all: libc::user_regs_struct = self.register_set()?;
        let mut registers = UnwindRegsX86_64::new(all.rip, all.rsp, all.rbp);
        for (name, value) in
            [(Reg::RBX, all.rbx), (Reg::R12, all.r12), (Reg::R13, all.r13), (Reg::R14, all.r14), (Reg::R15, all.r15)]
        {
            registers.set(name, value);
        }
        Ok((all.rip, all.rsp, registers))
    }

    #[cfg(target_arch = "aarch64")]
    fn registers(&self) -> io::Result<(u64, u64, <Native as Unwinder>::UnwindRegs)> {
        let all: libc::user_regs_struct = self.register_set()?;
        let registers = framehop::aarch64::UnwindRegsAarch64::new(all.regs[30], all.sp, all.regs[29]);
        Ok((all.pc, all.sp, registers))
    }

    fn register_set<T>(&self) -> io::Result<T> {
        let mut all = MaybeUninit::<T>::zeroed();
        let mut place = libc::iovec { iov_base: all.as_mut_ptr().cast(), iov_len: size_of::<T>() };
        ptrace(libc::PTRACE_GETREGSET, self.0, libc::NT_PRSTATUS as usize, (&raw mut place) as usize)?;
        // SAFETY: the callers' types are plain numbers, zeroed before the kernel wrote some or all of them.
        Ok(unsafe { all.assume_init() })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Fails only if the thread is gone. Should we be killed before, the kernel detaches it.
        let _ = ptrace(libc::PTRACE_DETACH, self.0, 0, 0);
    }
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: of the requests used here only GETREGSET writes, to the place that its caller made for it.
    match unsafe { libc::ptrace(request, thread, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_files_are_read() {
        let map = Mapping::read("7f00-7f10 r-xp 00001000 08:01 123  /usr/lib/a b.so (deleted)").unwrap();
        assert_eq!((map.range, map.is_code, map.path), (0x7f00..0x7f10, true, "/usr/lib/a b.so"));
        assert!(Mapping::read("7f00-7f10 rw-p 00000000 00:00 0 [stack]").is_none());
        assert!(Mapping::read("7f00-7f10 rw-p 00000000 00:00 0").is_none());
    }

    #[test]
    fn hashes_are_left_away() {
        assert_eq!(plain("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(plain("a::hello"), "a::hello");
    }
}
