//! Scenarios of settings: the file, the layers, the rules between settings.

use super::*;

fn file(text: &str) -> Result<Settings, String> {
    let layer = toml::from_str::<Layer>(text).map_err(|error| error.message().to_owned())?;
    Settings::new(layer).map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(text: &str, expect: &str) {
    let error = file(text).unwrap_err();
    assert!(error.contains(expect), "{text}: {error}");
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = file("").unwrap();
    assert_eq!((settings.shards, settings.pin), (0, Pin::Cores));
    assert_eq!(settings.drain_timeout, Duration::from_secs(10));
    let on: Vec<_> = settings.listeners.iter().map(|on| (on.listener, on.addr.to_string())).collect();
    let mut expect =
        vec![(Listener::Telnet, "127.0.0.1:2323".to_owned()), (Listener::Http, "127.0.0.1:8080".to_owned())];
    expect.retain(|(listener, _)| listener.is_built());
    assert_eq!(on, expect);
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
    assert_eq!(settings.data_dir.as_deref(), Some(Path::new("/var/lib/megamux")));
    assert_eq!(settings.listeners, []);
}

#[test]
fn what_lies_over_wins() {
    let over: Layer = toml::from_str("shards = 1\nhttp.listen = \"off\"").unwrap();
    let below: Layer = toml::from_str("shards = 2\ncaps = \"-inc\"\nhttp.listen = \"[::1]:1\"").unwrap();
    let layer = over.over(below);
    assert_eq!((layer.shards, layer.caps.as_deref()), (Some(1), Some("-inc")));
    assert_eq!(layer.http.listen, Some(Place::Off));
}

#[test]
fn mistakes_in_the_file_are_named() {
    check_refused("shard = 1", "unknown field `shard`");
    check_refused("shards = -1", "integer `-1`");
    check_refused("drain_timeout = 10", "expected a span of time such as \"10s\"");
    check_refused("http.listen = \"nowhere\"", "is no address");
    check_refused("http.insecure = true", "unknown field `insecure`");
    check_refused("pin = \"3-1\"", "is no CPU");
    check_refused("pin = \"0-99999999999\"", "is no CPU");
    check_refused("driver = \"kqueue\"", "is no driver");
}

#[test]
fn a_mistake_in_a_file_has_its_line() {
    let path = std::env::temp_dir().join(format!("megamux-config-{}.toml", std::process::id()));
    std::fs::write(&path, "shards = 1\n\n[http]\nlisten = \"localhost:80\"\n").unwrap();
    let error = Layer::read(&path).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    let expect = format!("{}:4: \"localhost:80\" is a name", path.display());
    assert!(error.starts_with(&expect), "{error}");
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
    }
}

#[test]
fn what_this_build_lacks_is_said() {
    for listener in Listener::ALL.into_iter().filter(|listener| !listener.is_built()) {
        let name = listener.name();
        check_refused(&format!("{name}.listen = \"127.0.0.1:1\""), &format!("this build has no {name}"));
        file(&format!("{name}.listen = \"off\"")).unwrap();
    }
}
