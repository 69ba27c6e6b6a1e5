//! `confined PROFILE PROGRAM ARGS...`: becomes a program under a seccomp profile as container runtimes read it.
//!
//! It owns the reading of the OCI form: the default action is an errno, what is listed is allowed, groups may be for some
//! machines only. It must not allow anything by itself: whoever starts a container allows nothing more either.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(profile), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: confined PROFILE PROGRAM ARGS...");
        return ExitCode::from(2);
    };
    let error = match filter(&profile) {
        Ok(filter) => match seccompiler::apply_filter(&filter) {
            Ok(()) => Command::new(&program).args(args).exec().to_string(),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    eprintln!("confined: {program}: {error}");
    ExitCode::FAILURE
}

fn filter(path: &str) -> Result<BpfProgram, Box<dyn std::error::Error>> {
    let profile: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    if profile["defaultAction"] != "SCMP_ACT_ERRNO" {
        return Err("the default action is not SCMP_ACT_ERRNO".into());
    }
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let mut names = BTreeSet::new();
    for group in profile["syscalls"].as_array().into_iter().flatten() {
        if group["action"] != "SCMP_ACT_ALLOW" {
            return Err("a group is not SCMP_ACT_ALLOW".into());
        }
        let machines = group["includes"]["arches"].as_array();
        if machines.is_none_or(|machines| machines.iter().any(|known| known == machine)) {
            names.extend(group["names"].as_array().into_iter().flatten().filter_map(Value::as_str));
        }
    }
    let rules: Vec<_> = names.iter().map(|name| json!({ "syscall": name })).collect();
    let filter = json!({ "all": {
        "mismatch_action": { "errno": profile["defaultErrnoRet"].as_u64().unwrap_or(1) },
        "match_action": "allow",
        "filter": rules,
    }});
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut filters = compile_from_json(filter.to_string().as_bytes(), arch)?;
    filters.remove("all").ok_or_else(|| "no filter".into())
}
