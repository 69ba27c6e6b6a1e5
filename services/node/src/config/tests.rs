//! Scenarios of settings: the file and its mistakes, the layers, the rules between settings, and their text.

use super::*;

const FILE: &str = "test.toml";

fn layer(text: &str) -> Result<Layer, String> {
    file::parse(Path::new(FILE), text).map_err(|error| error.to_string())
}

fn file(text: &str) -> Result<Settings, String> {
    Settings::new(layer(text)?).map_err(|error| error.to_string())
}

/// The mistake as it is shown, with its line.
#[track_caller]
fn check_refused(text: &str, expect: &str) {
    let error = file(text).unwrap_err();
    assert!(error.contains(expect), "{text}: {error}");
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = file("").unwrap();
    assert_eq!((settings.shards, &settings.pin), (0, &Pin::Cores));
    assert_eq!(settings.drain_timeout, Duration::from_secs(10));
    let on: Vec<_> = settings.listeners.iter().map(|on| (on.listener, on.addr.to_string())).collect();
    let mut expect =
        vec![(Listener::Telnet, "127.0.0.1:2323".to_owned()), (Listener::Http, "127.0.0.1:8080".to_owned())];
    expect.retain(|(listener, _)| listener.is_built());
    assert_eq!(on, expect);
}

#[test]
fn the_defaults_are_the_engines() {
    let (ours, engines) = (file("").unwrap().engine(), Config::default());
    assert_eq!(format!("{ours:?}"), format!("{engines:?}"));
    let ours = Settings::new(layer("echo.listen = \"127.0.0.1:7\"").unwrap());
    if let Ok(ours) = ours {
        let on = ours.listeners.iter().find(|on| on.listener == Listener::Echo).unwrap();
        let (applied, plain) = (on.apply(Listen::addr(on.addr.clone())), Listen::addr(on.addr.clone()));
        // The header's time is the PROXY protocol's, and there is none here.
        let plain = plain.handshake_timeout(on.handshake_timeout).name("echo");
        assert_eq!(format!("{applied:?}"), format!("{plain:?}"));
    }
}

#[test]
fn every_setting_can_stand_in_the_file() {
    let settings = file(
        r#"
        shards = 4
        pin = "0-2,5"
        driver = "uring"
        caps = "-inc"
        drain_timeout = "500ms"
        data_dir = "/var/lib/megamux"
        telnet.listen = "off"
        [limits]
        connections = 1000
        connections_per_source = 7
        shard_budget = "64MiB"
        server_budget = 1048576
        buffers = 32
        [log]
        filter = "debug"
        format = "json"
        [http]
        listen = "off"
        proxy_protocol = true
        [echo]
        listen = "off"
        "#,
    );
    let settings = settings.unwrap();
    assert_eq!(settings.shards, 4);
    assert_eq!(settings.pin, Pin::List(vec![0, 1, 2, 5]));
    assert_eq!(settings.driver, DriverChoice::Uring);
    assert_eq!(settings.caps_mask, "-inc");
    assert_eq!(settings.drain_timeout, Duration::from_millis(500));
    assert_eq!(settings.data_dir, DataDirChoice::At("/var/lib/megamux".into()));
    assert_eq!((settings.log_filter.as_str(), settings.log_format), ("debug", Format::Json));
    assert_eq!(settings.listeners, []);
    let engine = settings.engine();
    assert_eq!((engine.max_connections, engine.max_per_source, engine.buffers), (1000, 7, 32));
    assert_eq!((engine.shard_budget, engine.engine_budget), (64 << 20, 1 << 20));
}

#[cfg(feature = "echo")]
#[test]
fn there_may_be_several_listeners_of_a_protocol() {
    let settings = file(
        r#"
        telnet.listen = "off"
        http.listen = "off"
        [echo]
        listen = "127.0.0.1:7"
        [[listen]]
        protocol = "echo"
        listen = "unix:/run/echo"
        max_connections = 5
        idle_timeout = "2m"
        [[listen]]
        protocol = "echo"
        name = "local"
        listen = "[::1]:7"
        send_low = 1024
        send_high = "2KiB"
        send_cap = "1MiB"
        "#,
    );
    let on = settings.unwrap().listeners;
    let names: Vec<_> = on.iter().map(|on| (on.name.as_str(), on.addr.to_string())).collect();
    let expect = [("echo", "127.0.0.1:7"), ("echo-2", "unix:/run/echo"), ("local", "[::1]:7")];
    assert_eq!(names, expect.map(|(name, addr)| (name, addr.to_owned())));
    assert_eq!((on[1].max_connections, on[1].idle_timeout), (5, Some(Duration::from_secs(120))));
    assert_eq!((on[0].max_connections, on[0].idle_timeout), (u32::MAX, None), "what one says is not the others'");
    assert_eq!(on[2].send_queue, Some((1024, 2048, 1 << 20)));
}

#[test]
fn what_lies_over_wins() {
    let over = layer("shards = 1\nhttp.listen = \"off\"").unwrap();
    let below = layer("shards = 2\ncaps = \"-inc\"\nhttp.listen = \"[::1]:1\"").unwrap();
    let layer = over.over(below);
    let value = |path| layer.get(path).unwrap().0.clone();
    assert_eq!((value("shards"), value("caps")), (Value::Count(1), Value::Text("-inc".into())));
    assert_eq!(value("http.listen"), Value::Place(Place::Off));
}

#[test]
fn a_mistake_has_its_line_what_is_wrong_and_what_is_allowed() {
    check_refused("\nshard = 1", "test.toml:2: unknown key \"shard\": did you mean \"shards\"?");
    check_refused(
        "[http]\nlisten = \"off\"\nport = 80",
        "test.toml:3: unknown key \"port\" in [http]: known are listen,",
    );
    check_refused("[limit]\nconnections = 1", "test.toml:1: unknown key \"limit\": did you mean \"limits\"?");
    check_refused("connections = 1", "it belongs elsewhere, as limits.connections");
    check_refused(
        "http.insecure = true",
        "unknown key \"insecure\" in [http]: it belongs elsewhere, as telnet.insecure",
    );
    check_refused("shards = -1", "test.toml:1: shards: -1 will not do: give a number from 0 to 255");
    check_refused("shards = \"many\"", "shards: this is a string, where a number from 0 to 255 is needed");
    check_refused("drain_timeout = 10", "this is a integer, where a span of time such as");
    check_refused("http.listen = \"nowhere\"", "http.listen: \"nowhere\" is no address");
    check_refused("pin = \"3-1\"", "is no CPU");
    check_refused("pin = \"0-99999999999\"", "is no CPU");
    check_refused("driver = \"kqueue\"", "is no driver: give \"auto\", \"uring\" or");
    check_refused("caps = \"-everything\"", "\"-everything\" masks nothing");
    check_refused("[log]\nfilter = \"megamux=loud\"", "selects nothing to log");
    check_refused("[limits]\nbuffers = 33", "0, or a power of two up to 32768");
    check_refused("[limits]\nshard_budget = \"1GB\"", "\"1GB\" is no size: give bytes");
    check_refused("shards = [", "test.toml:1: ");
    check_refused("shards = 1\nshards = 2", "test.toml:2: duplicate key");
}

#[test]
fn one_look_shows_all_mistakes_in_order() {
    let error = layer("pin = \"x\"\n[http]\nport = 1\n[[listen]]\nprotocol = \"gopher\"\n").unwrap_err();
    let lines: Vec<_> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["test.toml:1", "test.toml:3", "test.toml:5"], "{error}");
}

#[test]
fn mistakes_in_entries_are_named() {
    check_refused("listen = \"127.0.0.1:7\"", "write [[listen]]");
    check_refused("\n[[listen]]\nlisten = \"127.0.0.1:7\"", "test.toml:3: this [[listen]] lacks its protocol");
    check_refused("[[listen]]\nprotocol = \"echo\"", "lacks its address");
    check_refused("[[listen]]\nprotocol = \"http\"\nsend_cap = 1\nlisten = \"off\"", "unknown key \"send_cap\"");
    check_refused("[[listen]]\nprotocol = \"echo\"\nlisten = \"off\"\nname = \"http\"", "is another listener's name");
    check_refused("[[listen]]\nprotocol = \"echo\"\nlisten = \"off\"\nname = \"a b\"", "names no listener");
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    let of =
        |name: &'static str, text: &'static str| environment(move |known| (known == name).then(|| text.to_owned()));
    let error = of("MEGAMUX_CAPS", "-everything").unwrap_err().to_string();
    assert!(error.starts_with("MEGAMUX_CAPS: \"-everything\" masks nothing") && error.contains("--caps"), "{error}");
    let error = of("MEGAMUX_LOG", "a=b=c").unwrap_err().to_string();
    assert!(error.starts_with("MEGAMUX_LOG: "), "{error}");
    assert_eq!(of("MEGAMUX_CAPS", "").unwrap(), Layer::default());
    assert!(of("MEGAMUX_CAPS", "-inc").unwrap().get("caps").is_some());
}

#[cfg(feature = "echo")]
#[test]
fn watermarks_must_rise() {
    check_refused(
        "[echo]\nlisten = \"127.0.0.1:7\"\nsend_high = 1",
        "test.toml:3: echo: send_low, send_high, send_cap must rise",
    );
}

#[cfg(feature = "telnet")]
#[test]
fn the_console_stays_on_loopback_unless_told() {
    for addr in ["127.8.8.8:23", "[::1]:23", "[::ffff:127.0.0.1]:23", "unix:/run/console"] {
        file(&format!("telnet.listen = {addr:?}")).unwrap();
    }
    for addr in ["0.0.0.0:23", "[::]:23", "192.0.2.1:23"] {
        check_refused(&format!("telnet.listen = {addr:?}"), "insecure = true");
        file(&format!("telnet.listen = {addr:?}\ntelnet.insecure = true")).unwrap();
        check_refused(&format!("[[listen]]\nprotocol = \"telnet\"\nlisten = {addr:?}"), "insecure = true");
    }
}

#[cfg(all(feature = "telnet", feature = "echo"))]
#[test]
fn a_passed_socket_is_the_listener_of_its_name() {
    let addr = |port: u16| Addr::Tcp(([0, 0, 0, 0], port).into());
    let mut settings = file("telnet.listen = \"off\"\nhttp.listen = \"off\"").unwrap();
    let mut taken = Vec::new();
    for (name, port, called) in [("echo", 1, "echo"), ("echo", 2, "echo-2"), ("echo-public", 3, "echo-public")] {
        assert_eq!(settings.take_over(name, addr(port), &taken).unwrap(), called);
        taken.push(called.to_owned());
    }
    let on: Vec<_> = settings.listeners.iter().map(|on| (on.name.as_str(), on.addr.clone())).collect();
    assert_eq!(on, [("echo", addr(1)), ("echo-2", addr(2)), ("echo-public", addr(3))]);
    let error = settings.take_over("smtp", addr(4), &taken).unwrap_err().to_string();
    assert!(error.contains("by the name \"smtp\", which is no listener"), "{error}");
    // Whoever binds it, the console is an operator's.
    let error = settings.take_over("telnet", addr(5), &taken).unwrap_err().to_string();
    assert!(error.contains("the telnet console is not bound to 0.0.0.0:5"), "{error}");
}

#[test]
fn what_this_build_lacks_is_said() {
    for listener in Listener::ALL.into_iter().filter(|listener| !listener.is_built()) {
        let name = listener.name();
        let expect = format!("test.toml:1: this build has no {name}");
        check_refused(&format!("{name}.listen = \"127.0.0.1:1\""), &expect);
        file(&format!("{name}.listen = \"off\"")).unwrap();
    }
}

#[test]
fn the_default_file_says_every_default() {
    let text = default_file();
    let read = layer(&text).unwrap();
    for (path, of, key) in keys::all() {
        let (value, _) = read.get(&path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(*value, key.default(of), "{path}");
        assert!(!key.help.is_empty() && key.help.lines().all(|line| line.len() <= 110), "{path}");
    }
    let (said, meant) = (Settings::new(read).unwrap(), file("").unwrap());
    assert_eq!(Settings { layer: Layer::default(), ..said }, meant);
}

#[test]
fn what_is_shown_reads_back_and_names_its_origin() {
    let below = layer("pin = \"none\"\n\n[http]\nlisten = \"off\"\n").unwrap();
    let mut over = Layer::default();
    over.set("shards".into(), Value::Count(3), Origin::Flag("--shards"));
    let env = environment(|name| (name == "MEGAMUX_LOG").then(|| "debug".to_owned())).unwrap();
    let settings = Settings::new(over.over(env).over(below)).unwrap();
    let text = settings.show();
    let check = |setting: &str, origin: &str| {
        let line = text.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{setting}: {text}"));
        assert!(line.ends_with(&format!("  # {origin}")), "{line}");
    };
    check("shards = 3", "flag --shards");
    check("log.filter = \"debug\"", "environment MEGAMUX_LOG");
    check("pin = \"none\"", "test.toml:1");
    check("http.listen = \"off\"", "test.toml:4");
    check("drain_timeout = \"10s\"", "default");
    let again = file(&text).unwrap();
    assert_eq!(Settings { layer: Layer::default(), ..again }, Settings { layer: Layer::default(), ..settings });
}

#[test]
fn a_change_is_live_or_it_needs_a_restart() {
    let before = file("shards = 1\ndrain_timeout = \"1s\"").unwrap();
    let after = file("shards = 2\nlog.filter = \"debug\"\ndrain_timeout = \"1s\"\npin = \"cores\"").unwrap();
    assert_eq!(before.changes(&after, true), ["log.filter"]);
    assert_eq!(before.changes(&after, false), ["shards"], "what is set to its default has not changed");
}
