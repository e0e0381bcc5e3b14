//! The harness itself: what the other tests rely on is true of the servers and faults they use.

use std::{
    fs,
    io::ErrorKind,
    net::UdpSocket,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use sluice_tests::{
    device::Device,
    disk::Disk,
    eventually,
    kafka::Kafka,
    mosquitto::{Mosquitto, Setup},
    network::{End, Network},
    process::Process,
    quota::Quota,
    topic::Topic,
};

#[test]
fn kafka_keeps_what_it_acknowledged_when_it_is_killed() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    let topic = Topic::create(&kafka.servers(), "kept", 3, &[("max.message.bytes", "2000")])?;
    produce(&kafka.servers(), &topic.name, 100)?;
    kafka.kill()?;
    ensure!(produce(&kafka.servers(), &topic.name, 1).is_err(), "a killed Kafka must not take records");
    kafka.start_again()?;
    let records = topic.read_all()?;
    ensure!(records.len() == 100, "{} records", records.len());
    ensure!(records.iter().all(|record| record.header("origin").as_deref() == Some("test")), "headers are kept");
    topic.check_count(100)
}

#[test]
fn a_hung_kafka_serves_again() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    let topic = Topic::create(&kafka.servers(), "hung", 1, &[])?;
    kafka.process()?.pause()?;
    ensure!(produce(&kafka.servers(), &topic.name, 1).is_err(), "a hung Kafka must not take records");
    kafka.process()?.unpause()?;
    produce(&kafka.servers(), &topic.name, 1)?;
    eventually("the record is there", || {
        topic.count().and_then(|count| {
            ensure!(count >= 1, "{count} records");
            Ok(())
        })
    })
}

#[test]
fn mosquitto_lets_in_only_whom_it_knows() -> anyhow::Result<()> {
    let login = Some(("device".to_owned(), "secret".to_owned()));
    let broker = Mosquitto::start(&Setup { login, ..Setup::default() })?;
    ensure!(Device::connect(broker.port).is_err(), "anonymous");
    ensure!(Device::connect_as(broker.port, Some(("device", "wrong"))).is_err(), "wrong password");
    let mut device = Device::connect_as(broker.port, Some(("device", "secret")))?;
    for qos in 0..=2 {
        device.publish("a", qos, b"1")?;
    }
    Ok(())
}

/// Only root may make networks and mount disks; others are told so, and nothing is silently left out.
#[test]
fn a_cut_direction_of_a_network_is_silent_and_the_other_is_not() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    if let Err(refusal) = Network::check_possible() {
        ensure!(refusal.to_string().contains("a network partition needs"), "{refusal}");
        return Ok(());
    }
    let network = Network::make(1)?;
    let here = UdpSocket::bind((network.gateway(), 0))?;
    let mut command = network.host(0).command(Path::new("/bin/bash"))?;
    let sender =
        format!("while :; do echo x >/dev/udp/{}; sleep 0.02; done", here.local_addr()?.to_string().replace(':', "/"));
    command.args(["-c", &sender]);
    let _sender = Process::start("sender", command, &dir.path().join("log"))?;
    let (away, back) = ((End::Host(0), End::Gateway), (End::Gateway, End::Host(0)));
    eventually("the host is heard", || check_heard(&here, true))?;
    network.cut(back.0, back.1)?;
    check_heard(&here, true).context("the other direction was cut")?;
    network.cut(away.0, away.1)?;
    check_heard(&here, false)?;
    network.mend(back.0, back.1)?;
    check_heard(&here, false)?;
    network.mend(away.0, away.1)?;
    eventually("the host is heard again", || check_heard(&here, true))
}

fn check_heard(socket: &UdpSocket, expected: bool) -> anyhow::Result<()> {
    let mut buffer = [0; 16];
    // What had arrived before does not count.
    socket.set_nonblocking(true)?;
    while socket.recv(&mut buffer).is_ok() {}
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let is_heard = match socket.recv(&mut buffer) {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => return Err(error.into()),
    };
    ensure!(is_heard == expected, "heard: {is_heard}");
    Ok(())
}

#[test]
fn a_full_disk_takes_no_byte_and_gets_room_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().join("data");
    if let Err(refusal) = Disk::check_possible() {
        ensure!(refusal.to_string().contains("only root"), "{refusal}");
        return Ok(());
    }
    let disk = Disk::mount(&place)?;
    fs::write(place.join("before"), b"x")?;
    disk.fill()?;
    let refused = fs::write(place.join("after"), b"x");
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::StorageFull), "a full disk took a byte");
    disk.make_room()?;
    fs::write(place.join("after"), b"x")?;
    drop(disk);
    ensure!(fs::read_dir(&place)?.next().is_none(), "the disk is still mounted");
    Ok(())
}

/// Only root may bound CPU time; others are told so.
#[test]
fn a_bounded_process_takes_as_long_as_its_share_makes_it() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "while :; do :; done"]);
    let busy = Process::start("busy", command, &dir.path().join("log"))?;
    let _quota = match Quota::limit(busy.pid(), 10) {
        Ok(quota) => quota,
        Err(refusal) => {
            let refusal = refusal.to_string();
            ensure!(refusal.contains("needs root") || refusal.contains("no control groups"), "{refusal}");
            return Ok(());
        }
    };
    let (before, start) = (busy.cpu_time()?, Instant::now());
    eventually("it has used a quarter of a second", || {
        let used = busy.cpu_time()? - before;
        ensure!(used >= Duration::from_millis(250), "{used:?}");
        Ok(())
    })?;
    // A tenth of a core needs ten times as long; the kernel lets a group run over by a period or two.
    ensure!(start.elapsed() > Duration::from_millis(1_500), "in {:?}", start.elapsed());
    Ok(())
}

#[test]
fn nothing_outlives_a_killed_test_process() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let told = dir.path().join("told");
    // This very program, told to run the one test below, which makes what must not stay, and hangs.
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["harness::hangs_with_a_child", "--exact", "--include-ignored"]).env(HANG, &told);
    let mut test = Process::start("inner test", command, &dir.path().join("log"))?;
    let text = eventually("the inner test has a child", || Ok(fs::read_to_string(&told)?))?;
    let (pid, namespace) = text.split_once(' ').context("two words")?;
    let pid: u32 = pid.parse()?;
    let namespace = Path::new("/run/netns").join(namespace);
    ensure!(is_alive(pid), "the child runs");
    ensure!(Network::check_possible().is_err() || namespace.exists(), "no {}", namespace.display());
    test.kill()?;
    eventually("all is gone", || {
        ensure!(!is_alive(pid), "process {pid} is alive");
        ensure!(!namespace.is_file(), "{} is there", namespace.display());
        Ok(())
    })
}

const HANG: &str = "SLUICE_TEST_HANG_WITH_CHILD";

/// Does nothing unless the test above runs it.
#[test]
fn hangs_with_a_child() -> anyhow::Result<()> {
    let Some(told) = std::env::var_os(HANG) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let network = Network::check_possible().is_ok().then(|| Network::make(1)).transpose()?;
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut child = Process::start("sleep", command, &dir.path().join("log"))?;
    let namespace = network.as_ref().map_or("none", |network| &network.host(0).namespace);
    let unfinished = dir.path().join("told");
    fs::write(&unfinished, format!("{} {namespace}", child.pid()))?;
    fs::rename(unfinished, told)?;
    child.wait(Duration::from_secs(600)).context("nobody killed this test")?;
    Ok(())
}

/// A zombie that its parent has not waited for does not count.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

fn produce(servers: &str, topic: &str, count: u32) -> anyhow::Result<()> {
    use rdkafka::{
        ClientConfig,
        message::{Header, OwnedHeaders},
        producer::{BaseProducer, BaseRecord, Producer as _},
    };
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("log_level", "0")
        .create()?;
    for number in 0..count {
        let headers = OwnedHeaders::new().insert(Header { key: "origin", value: Some("test") });
        let (key, payload) = (format!("key-{number}"), number.to_string());
        let record = BaseRecord::to(topic).key(&key).payload(&payload).headers(headers);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    let flushed = producer.flush(Duration::from_secs(5));
    if flushed.is_err() {
        // Without it the client waits for its records when it is dropped.
        producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
    Ok(flushed?)
}
