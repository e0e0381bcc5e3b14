//! A node from three layers, and for every bad setting the exact words.

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn host() -> Host {
    Host { name: Some("Node_7.example.com".to_owned()), cores: NonZeroUsize::MIN.saturating_add(3) }
}

fn load(file: &str, environment: &[(&str, &str)], flags: &Overrides) -> Result<Node, ConfigErrors> {
    let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Node::load(Some(("sluice.yaml", file)), &environment, flags, &host())
}

#[test]
fn everything_has_a_default() -> Outcome {
    let node = Node::load(None, &BTreeMap::new(), &Overrides::default(), &host())?;
    assert_eq!(
        node.to_yaml()?,
        "name: node-7-example-com\ncluster: sluice\ndata_dir: /var/lib/sluice\nadmin_listen: 127.0.0.1:7070\n\
         admin_allow_remote: false\nseeds: []\nbootstrap_expect: 1\nbootstrap: true\nvoters_max: 5\nlease: 2s\n\
         keep_alive: 300ms\nheartbeat: 100ms\nelection_timeout: 500ms-1s\nbalance: count\nhttp_listen: 127.0.0.1:7071\nlanes: 4\nin_flight:\n  lane_readings: 200000\n  \
         lane_bytes: 128MiB\n  shard_readings: 100000\n  shard_bytes: 64MiB\nsecret_roots:\n- /run/secrets\n\
         drain_deadline: 10s\ncheckpoint_interval: 1s\nlog:\n  format: text\n  filter: info,openraft=error\n"
    );
    assert_eq!(load(&node.to_yaml()?, &[], &Overrides::default())?, node, "what is shown gives the same node");
    Ok(())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() -> Outcome {
    let file = "name: file\ncluster: file\nlanes: 1\nin_flight: {lane_readings: 10, shard_readings: 5}\n";
    let environment = [
        ("SLUICE_CLUSTER", "environment"),
        ("SLUICE_LANES", "2"),
        ("SLUICE_IN_FLIGHT_LANE_READINGS", "20"),
        ("SLUICE_SECRET_ROOTS", "/a:/b"),
        ("SLUICE_SERVICE_HOST", "10.0.0.1"),
        ("SLUICE_PORT_7070_TCP", "tcp://10.0.0.1:7070"),
        ("HOME", "/root"),
    ];
    let flags = Overrides { lanes: Some("3".to_owned()), log_format: Some("json".to_owned()), ..Overrides::default() };
    let node = load(file, &environment, &flags)?;
    assert_eq!((node.name.as_str(), node.cluster.as_str(), node.lanes.get()), ("file", "environment", 3));
    assert_eq!((node.in_flight.lane_readings.get(), node.in_flight.shard_readings.get()), (20, 5));
    assert_eq!(node.secret_roots.paths(), [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(node.log, Log { format: LogFormat::Json, filter: "info,openraft=error".to_owned() });
    Ok(())
}

#[test]
fn an_admin_address_that_others_reach_must_be_wanted() -> Outcome {
    let node = load("admin_listen: 0.0.0.0:7070\nadmin_allow_remote: true\n", &[], &Overrides::default())?;
    assert_eq!(node.admin_listen.to_string(), "0.0.0.0:7070");
    assert!(load("admin_listen: '[::1]:7070'\n", &[], &Overrides::default()).is_ok());
    let guard = "admin_listen: 0.0.0.0:7070\nadmin_tls: {cert_file: /c, key_file: /k}\n";
    assert!(load(guard, &[], &Overrides::default()).is_err(), "a certificate keeps nobody out");
    let guard = format!("{guard}admin_tokens: {{operate: 0123456789abcdef}}\n");
    assert!(load(&guard, &[], &Overrides::default()).is_ok());
    Ok(())
}

#[test]
fn a_node_among_others() -> Outcome {
    let file = "name: sluice-2\ncluster_listen: 0.0.0.0:7072\ncluster_advertise: sluice-2.sluice:7072\nlease: 1s\n\
                cluster_tls: {ca_file: /ca, cert_file: /c, key_file: /k, server_name: sluice}\nbalance: rate\n\
                election_timeout: 300ms - 600ms\n";
    let node = load(
        file,
        &[("SLUICE_SEEDS", "sluice:7072, 10.0.0.7:7072"), ("SLUICE_VOTERS_MAX", "3")],
        &Overrides::default(),
    )?;
    let cluster = &node.clustering;
    assert_eq!(cluster.seeds, ["sluice:7072", "10.0.0.7:7072"]);
    assert_eq!((cluster.bootstrap_expect, cluster.may_found, cluster.voters_max), (3, false, 3));
    assert_eq!(cluster.election_timeout, (Duration::from_millis(300), Duration::from_millis(600)));
    assert_eq!(load(&node.to_yaml()?, &[], &Overrides::default())?, node, "what is shown gives the same node");
    let first = load(&file.replace("sluice-2", "sluice-0"), &[("SLUICE_SEEDS", "sluice:7072")], &Overrides::default())?;
    assert!(first.clustering.may_found);
    let insecure = load("cluster_listen: 127.0.0.1:7072\ncluster_insecure: true\n", &[], &Overrides::default())?;
    assert_eq!(load(&insecure.to_yaml()?, &[], &Overrides::default())?, insecure);
    Ok(())
}

#[test]
fn every_bad_setting_of_the_cluster_gets_its_stated_words() {
    let open = "cluster_listen: 127.0.0.1:7072\ncluster_insecure: true\n";
    for (file, want) in [
        (
            "cluster_listen: 127.0.0.1:7072".to_owned(),
            "sluice.yaml:1: cluster_tls: is missing: whoever reaches cluster_listen could take part in the cluster; \
             give cluster_tls, or say cluster_insecure: true where the network itself keeps others out",
        ),
        (
            format!("{open}cluster_tls: {{ca_file: /a, cert_file: /b, key_file: /c}}"),
            "sluice.yaml:2: cluster_insecure: contradicts cluster_tls; remove one of the two",
        ),
        (
            "cluster_tls: {ca_file: /a, cert_file: /b}\ncluster_listen: 127.0.0.1:7072".to_owned(),
            "sluice.yaml:1: cluster_tls.key_file: is missing: give the PEM file of its key",
        ),
        (
            "cluster_listen: 0.0.0.0:7072\ncluster_insecure: true".to_owned(),
            "sluice.yaml:1: cluster_advertise: is missing: 0.0.0.0:7072 is no address that others could call; give host:port",
        ),
        (
            "seeds: [a:1]\nbootstrap_expect: 2".to_owned(),
            "sluice.yaml:1: seeds: needs cluster_listen: without it the node is a cluster of one; give it, or remove this\n\
             sluice.yaml:2: bootstrap_expect: needs cluster_listen: without it the node is a cluster of one; give it, or remove this",
        ),
        (
            format!("{open}seeds: [http://a:1]"),
            "sluice.yaml:3: seeds[0]: \"http://a:1\" is not host:port; give for example sluice-0.sluice:7072",
        ),
        (
            format!("{open}cluster_advertise: '::1:7072'"),
            "sluice.yaml:3: cluster_advertise: \"::1:7072\" is not host:port; give for example sluice-0.sluice:7072",
        ),
        (
            format!("{open}voters_max: 4"),
            "sluice.yaml:3: voters_max: 4 voters survive the loss of one, as 3 do; give 3 or 5",
        ),
        (
            format!("{open}lease: 500ms"),
            "sluice.yaml:3: lease: 500ms does not outlast a lost keep-alive; give at least 900ms, which is 3 keep-alives",
        ),
        (
            format!("{open}keep_alive: 5s"),
            "sluice.yaml:1: lease: 2s does not outlast a lost keep-alive; give at least 15s, which is 3 keep-alives",
        ),
        (
            format!("{open}heartbeat: 400ms"),
            "sluice.yaml:1: election_timeout: begins at 500ms, which does not outlast a lost heartbeat; \
             begin at 1200ms or more, which is 3 heartbeats",
        ),
        (
            format!("{open}election_timeout: 1s-500ms"),
            "sluice.yaml:3: election_timeout: \"1s-500ms\" is not a range of durations; give for example 500ms-1s, at most 60s",
        ),
        (
            format!("{open}election_timeout: 200ms-500ms"),
            "sluice.yaml:3: election_timeout: begins at 200ms, which does not outlast a lost heartbeat; \
             begin at 300ms or more, which is 3 heartbeats",
        ),
        (format!("{open}balance: even"), "sluice.yaml:3: balance: expected one of count, rate; found \"even\""),
        (
            "admin_tokens: {read: abc}".to_owned(),
            "sluice.yaml:1: admin_tokens.operate: is missing: give the token of those who may change things",
        ),
        (
            "admin_tls: {cert: /c}".to_owned(),
            "sluice.yaml:1: admin_tls.cert_file: is missing: give the PEM file of the listener's certificate\n\
             sluice.yaml:1: admin_tls.key_file: is missing: give the PEM file of its key\n\
             sluice.yaml:1: admin_tls.cert: unknown key; the keys here are cert_file, key_file",
        ),
    ] {
        let outcome = load(&file, &[], &Overrides::default()).map(drop).map_err(|errors| errors.to_string());
        assert_eq!(outcome, Err(want.to_owned()), "{file}");
    }
}

#[test]
fn every_bad_setting_gets_its_stated_words() {
    for (file, want) in [
        (
            "admin_listen: 0.0.0.0:7070",
            "sluice.yaml:1: admin_listen: 0.0.0.0:7070 can be reached from other machines, and whoever reaches it rules the cluster; \
             give admin_tls and admin_tokens, or a loopback address, or set `admin_allow_remote: true`",
        ),
        (
            "http_listen: 127.0.0.1:7070",
            "sluice.yaml:1: http_listen: 127.0.0.1:7070 is taken by admin_listen, 127.0.0.1:7070; give one of them another port",
        ),
        (
            "cluster_listen: 0.0.0.0:7071\ncluster_insecure: true\ncluster_advertise: a:7071",
            "sluice.yaml:1: cluster_listen: 0.0.0.0:7071 is taken by http_listen, 127.0.0.1:7071; give one of them another port",
        ),
        (
            "http_listen: localhost",
            "sluice.yaml:1: http_listen: \"localhost\" is not an address to listen on; give IP and port, as in 127.0.0.1:7070",
        ),
        (
            "name: Node 7",
            "sluice.yaml:1: name: node name \"Node 7\" is not usable: give 1 to 63 characters of a-z, 0-9 and '-', \
             starting and ending with a letter or digit",
        ),
        (
            "cluster: a_b",
            "sluice.yaml:1: cluster: cluster name \"a_b\" is not usable: give 1 to 63 characters of a-z, 0-9 and '-', \
             starting and ending with a letter or digit",
        ),
        ("lanes: 0", "sluice.yaml:1: lanes: expected a whole number from 1 to 1024; found `0`"),
        ("lane: 4", "sluice.yaml:1: lane: unknown key; did you mean `lanes`?"),
        ("data_dir: \"\"", "sluice.yaml:1: data_dir: cannot be an empty path"),
        (
            "in_flight:\n  lane_readings: 10\n  shard_readings: 11",
            "sluice.yaml:3: in_flight.shard_readings: expected a whole number from 1 to 10; found `11`",
        ),
        (
            "in_flight:\n  lane_byte: 1MiB",
            "sluice.yaml:2: in_flight.lane_byte: unknown key; did you mean `lane_bytes`?",
        ),
        ("in_flight: 5", "sluice.yaml:1: in_flight: expected a table of keys; found `5`"),
        ("secret_roots: [secrets]", "sluice.yaml:1: secret_roots[0]: secrets is not an absolute path"),
        (
            "drain_deadline: 10",
            "sluice.yaml:1: drain_deadline: expected a duration from 0ms to 10m with its unit (ms, s, m or h); found `10`",
        ),
        (
            "checkpoint_interval: 1ms",
            "sluice.yaml:1: checkpoint_interval: expected a duration from 100ms to 1m with its unit (ms, s, m or h); found `1ms`",
        ),
        ("log: {format: xml}", "sluice.yaml:1: log.format: expected one of text, json; found \"xml\""),
        ("a: 1\n---\nb: 2", "sluice.yaml: holds several documents; a node has one configuration"),
        ("a: [", "sluice.yaml:1: not YAML: unclosed bracket '['"),
    ] {
        let outcome = load(file, &[], &Overrides::default()).map(drop).map_err(|errors| errors.to_string());
        assert_eq!(outcome, Err(want.to_owned()), "{file}");
    }
}

#[test]
fn bad_variables_and_flags_are_named() {
    let flags = Overrides { admin_listen: Some("0.0.0.0:1".to_owned()), ..Overrides::default() };
    let outcome = load("", &[("SLUICE_LANES", "many"), ("SLUICE_LOG_FILTERS", "debug")], &flags);
    let want = "environment SLUICE_LOG_FILTERS: unknown variable; did you mean `SLUICE_LOG_FILTER`?\n\
                flag --admin-listen: admin_listen: 0.0.0.0:1 can be reached from other machines, and whoever reaches it rules the cluster; \
                give admin_tls and admin_tokens, or a loopback address, or set `admin_allow_remote: true`\n\
                environment SLUICE_LANES: lanes: expected a whole number from 1 to 1024; found `many`";
    assert_eq!(outcome.map(drop).map_err(|errors| errors.to_string()), Err(want.to_owned()));
}

#[test]
fn a_machine_without_a_usable_name_needs_one() {
    let nameless = Host { name: Some("___".to_owned()), ..host() };
    let outcome = Node::load(None, &BTreeMap::new(), &Overrides::default(), &nameless);
    let want = "configuration: name: is missing: this machine has no usable host name; give the node a name";
    assert_eq!(outcome.map(drop).map_err(|errors| errors.to_string()), Err(want.to_owned()));
}
