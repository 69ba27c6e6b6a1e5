//! The walls between the rooms: this file owns who may depend on whom, as ARCHITECTURE.md promises it.
//!
//! Read from `cargo metadata`, so they hold for what is built and cannot rot. Dev-dependencies pass all walls but one:
//! nobody ships them, yet only tests may use what lives in tools, benches, tests and examples. Of tests, what depends on
//! nothing is a helper for the tests of all; of tools, what has no program is a helper for the tools.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Problem;
use crate::metadata::{Kind, Metadata, Package};

/// What a sans-IO protocol must not reach, even through others: whatever can do I/O, tell time or start a thread's runtime.
const NO_PROTOCOL_REACHES: [&str; 16] = [
    "async-std",
    "compio",
    "futures-executor",
    "getrandom",
    "glommio",
    "io-uring",
    "libc",
    "mio",
    "monoio",
    "nix",
    "polling",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "tokio-uring",
];

/// All an embedder needs beside the engine.
const EXAMPLES_MAY_USE: [&str; 2] = ["megamux-engine", "bytes"];

/// Packages whose folder or name is fixed otherwise: the node is the product, and `cargo xtask` calls its tool by name.
const NAMES: [(&str, &str); 2] = [("services/node", "megamux"), ("tools/xtask", "xtask")];

pub fn check(metadata: &Metadata) -> Vec<Problem> {
    let members: HashMap<&str, Member<'_>> =
        metadata.members().map(|package| (package.name.as_str(), Member::new(metadata, package))).collect();
    let mut problems = Vec::new();
    for member in members.values() {
        problems.extend(check_name(member));
        for dependency in &member.package.dependencies {
            let target = members.get(dependency.name.as_str());
            if let Some(what) = edge(member, &dependency.name, target, dependency.kind) {
                let line = line_of(member.package, &dependency.name);
                problems.push(Problem::new(&member.manifest(), line, what));
            }
        }
        if member.room == "protocols" {
            problems.extend(reach(metadata, member));
        }
    }
    problems
}

struct Member<'a> {
    package: &'a Package,
    folder: String,
    room: String,
}

impl<'a> Member<'a> {
    fn new(metadata: &Metadata, package: &'a Package) -> Self {
        let folder = metadata.folder(package);
        let room = folder.split('/').next().unwrap_or_default().to_owned();
        Self { package, folder, room }
    }

    fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }

    fn is_product(&self) -> bool {
        matches!(self.room.as_str(), "engine" | "protocols" | "services")
    }

    fn is_test_helper(&self) -> bool {
        self.room == "tests" && self.package.dependencies.is_empty()
    }

    fn is_tool_helper(&self) -> bool {
        self.room == "tools" && self.package.targets_of_kind("bin").is_empty()
    }
}

/// What is wrong with one declared dependency; `to` is absent for a crate of somebody else.
fn edge(from: &Member<'_>, name: &str, to: Option<&Member<'_>>, kind: Kind) -> Option<String> {
    if let Some(to) = to
        && !to.is_product()
    {
        let for_tests = kind == Kind::Dev && (from.room == "tests" || to.is_test_helper());
        let between_tests = from.room == "tests" && to.is_test_helper();
        let between_tools = from.room == "tools" && to.is_tool_helper();
        return (!for_tests && !between_tests && !between_tools)
            .then(|| format!("nothing depends on {}: move what you need of {name} to its owner", to.room));
    }
    if kind == Kind::Dev {
        return None;
    }
    let to_room = to.map_or("", |to| to.room.as_str());
    match from.room.as_str() {
        "engine" if matches!(to_room, "protocols" | "services") => {
            Some(format!("the engine knows no {to_room}: let {name} depend on the engine, or the node join them"))
        }
        "protocols" if to.is_some() && name != "megamux-event" => {
            Some(format!("a protocol depends on no crate of ours but megamux-event: do without {name}"))
        }
        "protocols" if NO_PROTOCOL_REACHES.contains(&name) => {
            Some(format!("a protocol does no I/O: take bytes and the time as arguments instead of using {name}"))
        }
        "services" if to_room == "services" && from.folder != "services/node" => {
            Some(format!("services meet through events: publish what {name} needs, the node connects you"))
        }
        "examples" if !EXAMPLES_MAY_USE.contains(&name) => Some(format!(
            "an example stands for an embedder: {} have to do, without {name}",
            EXAMPLES_MAY_USE.join(" and ")
        )),
        _ => None,
    }
}

/// Folder name = crate name without the prefix.
fn check_name(member: &Member<'_>) -> Option<Problem> {
    let folder = member.folder.rsplit('/').next().unwrap_or_default();
    let expect = match (NAMES.iter().find(|(path, _)| *path == member.folder), member.room.as_str()) {
        (Some((_, name)), _) => (*name).to_owned(),
        (None, "tests") => format!("megamux-{folder}-tests"),
        (None, "examples") => format!("megamux-{folder}-example"),
        (None, _) => format!("megamux-{folder}"),
    };
    (member.package.name != expect).then(|| {
        let what = format!("name the package {expect}, after its folder, not {}", member.package.name);
        Problem::new(&member.manifest(), line_of(member.package, "name"), what)
    })
}

/// Follows what is linked into a protocol, and names the first forbidden crate with the way to it. Direct dependencies have
/// been judged already; procedural macros run in the compiler.
fn reach(metadata: &Metadata, member: &Member<'_>) -> Option<Problem> {
    let resolve = metadata.resolve.as_ref()?;
    let nodes: HashMap<&str, _> = resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let packages: HashMap<&str, _> = metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();

    let mut seen = HashSet::from([member.package.id.as_str()]);
    let mut queue = VecDeque::from([(member.package.id.as_str(), member.package.name.clone())]);
    while let Some((id, way)) = queue.pop_front() {
        for dependency in nodes.get(id).map_or(&[][..], |node| &node.deps[..]) {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind == Kind::Normal);
            let Some(package) = packages.get(dependency.pkg.as_str()) else {
                continue;
            };
            let is_macro = !package.targets_of_kind("proc-macro").is_empty();
            if !linked || is_macro || !seen.insert(&dependency.pkg) {
                continue;
            }
            let way = format!("{way} -> {}", package.name);
            if NO_PROTOCOL_REACHES.contains(&package.name.as_str()) {
                let direct = id == member.package.id;
                return (!direct).then(|| {
                    let what = format!("a protocol does no I/O, yet {way}: turn off the feature, or do without");
                    Problem::new(&member.manifest(), 1, what)
                });
            }
            queue.push_back((&package.id, way));
        }
    }
    None
}

/// Where the manifest names it; the first line when it cannot be found.
fn line_of(package: &Package, name: &str) -> usize {
    let manifest = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
    let found =
        manifest.lines().position(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.', '='])));
    found.map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ENGINE: (&str, &str) = ("engine", "megamux-engine");
    const EVENT: (&str, &str) = ("protocols/event", "megamux-event");
    const HTTP: (&str, &str) = ("protocols/http", "megamux-http");
    const CONSOLE: (&str, &str) = ("services/console", "megamux-console");
    const NODE: (&str, &str) = ("services/node", "megamux");
    const SIM: (&str, &str) = ("tests/sim", "megamux-sim-tests");
    const SKIP: (&str, &str) = ("tests/skip", "megamux-skip-tests");
    const MICRO: (&str, &str) = ("benches/micro", "megamux-micro");
    const XTASK: (&str, &str) = ("tools/xtask", "xtask");
    const CLIENT: (&str, &str) = ("tools/client", "megamux-client");
    const KV: (&str, &str) = ("examples/kv", "megamux-kv-example");

    fn package(folder: &str, name: &str, dependencies: Value) -> Value {
        let kind = if folder == CLIENT.0 { "lib" } else { "bin" };
        json!({
            "id": name, "name": name, "version": "0.1.0", "license": "MIT",
            "targets": [{ "name": name, "kind": [kind], "src_path": "" }],
            "manifest_path": format!("/w/{folder}/Cargo.toml"), "dependencies": dependencies,
        })
    }

    /// A workspace of all rooms in which one package has one dependency.
    fn check_edge(from: (&str, &str), to: &str, kind: Option<&str>, fine: bool) {
        let all = [ENGINE, EVENT, HTTP, CONSOLE, NODE, SIM, SKIP, MICRO, XTASK, CLIENT, KV];
        let packages: Vec<Value> = all
            .iter()
            .map(|member| {
                let edge = json!([{ "name": to, "kind": kind }]);
                let other = if *member == SIM { json!([{ "name": ENGINE.1, "kind": null }]) } else { json!([]) };
                package(member.0, member.1, if *member == from { edge } else { other })
            })
            .collect();
        let members: Vec<&str> = all.iter().map(|member| member.1).collect();
        let problems = problems(&packages, &members, json!(null));
        assert_eq!(problems.is_empty(), fine, "{} -> {to} ({kind:?}): {problems:?}", from.1);
    }

    fn problems(packages: &[Value], members: &[&str], resolve: Value) -> Vec<String> {
        let metadata = json!({
            "packages": packages, "workspace_members": members, "resolve": resolve,
            "workspace_root": "/w", "target_directory": "/w/target",
        });
        let metadata = serde_json::from_value(metadata).unwrap();
        check(&metadata).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn protocols_stand_alone() {
        check_edge(HTTP, EVENT.1, None, true);
        check_edge(HTTP, "httparse", None, true);
        for to in [ENGINE.1, CONSOLE.1, "libc", "io-uring", "tokio"] {
            check_edge(HTTP, to, None, false);
        }
        check_edge(EVENT, HTTP.1, None, false);
        check_edge(HTTP, "libc", Some("dev"), true);
    }

    #[test]
    fn the_engine_knows_neither_protocol_nor_service() {
        check_edge(ENGINE, "libc", None, true);
        check_edge(ENGINE, EVENT.1, None, false);
        check_edge(ENGINE, CONSOLE.1, Some("build"), false);
        check_edge(ENGINE, EVENT.1, Some("dev"), true);
    }

    #[test]
    fn only_the_node_names_services() {
        check_edge(CONSOLE, ENGINE.1, None, true);
        check_edge(CONSOLE, HTTP.1, None, true);
        check_edge(CONSOLE, NODE.1, None, false);
        check_edge(NODE, CONSOLE.1, None, true);
    }

    #[test]
    fn nothing_depends_on_what_is_not_shipped() {
        for from in [ENGINE, HTTP, CONSOLE, NODE, KV, XTASK] {
            for to in [SIM, MICRO, XTASK, KV].into_iter().chain((from != XTASK).then_some(CLIENT)) {
                check_edge(from, to.1, None, false);
                check_edge(from, to.1, Some("dev"), false);
            }
        }
        for to in [ENGINE, HTTP, CONSOLE, NODE, MICRO, KV] {
            check_edge(SIM, to.1, Some("dev"), true);
        }
        check_edge(SIM, MICRO.1, None, false);
        check_edge(XTASK, CLIENT.1, None, true);
        check_edge(CLIENT, XTASK.1, None, false);
        check_edge(ENGINE, SKIP.1, None, false);
        for from in [ENGINE, HTTP, CONSOLE, NODE, SIM] {
            check_edge(from, SKIP.1, Some("dev"), true);
        }
        check_edge(SIM, SKIP.1, None, true);
    }

    #[test]
    fn an_example_is_an_embedder() {
        check_edge(KV, ENGINE.1, None, true);
        check_edge(KV, "bytes", None, true);
        check_edge(KV, HTTP.1, None, false);
        check_edge(KV, "tokio", None, false);
    }

    #[test]
    fn folders_name_packages() {
        let found = problems(&[package("protocols/http", "megamux-web", json!([]))], &["megamux-web"], json!(null));
        assert!(found[0].contains("name the package megamux-http"), "{found:?}");
    }

    #[test]
    fn a_protocol_reaches_no_io_through_others() {
        let node = |id: &str, to: &[(&str, Option<&str>)]| {
            let deps: Vec<Value> =
                to.iter().map(|(pkg, kind)| json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] })).collect();
            json!({ "id": id, "deps": deps })
        };
        let packages = [
            package("protocols/http", "megamux-http", json!([])),
            package("../rand", "rand", json!([])),
            package("../libc", "libc", json!([])),
        ];
        let check = |kind: Option<&str>| {
            let http = node("megamux-http", &[("rand", None)]);
            let nodes = json!({ "nodes": [http, node("rand", &[("libc", kind)]), node("libc", &[])] });
            problems(&packages, &["megamux-http"], nodes)
        };
        assert!(check(None)[0].contains("megamux-http -> rand -> libc"));
        assert!(check(Some("build")).is_empty());
    }
}
