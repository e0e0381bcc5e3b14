//! The harness itself: what the other tests rely on is true of the servers and faults they use.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_tests::{
    device::Device,
    eventually,
    kafka::Kafka,
    mosquitto::{Mosquitto, Setup},
    process::Process,
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

#[test]
fn a_child_does_not_outlive_a_killed_test_process() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let pid_file = dir.path().join("pid");
    // This very program, told to run the one test below, which starts a child and hangs.
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["harness::hangs_with_a_child", "--exact", "--include-ignored"]).env(HANG, &pid_file);
    let mut test = Process::start("inner test", command, &dir.path().join("log"))?;
    let pid: u32 = eventually("the inner test has a child", || Ok(fs::read_to_string(&pid_file)?.parse()?))?;
    ensure!(is_alive(pid), "the child runs");
    test.kill()?;
    eventually("the child is gone", || {
        ensure!(!is_alive(pid), "process {pid} is alive");
        Ok(())
    })
}

const HANG: &str = "SLUICE_TEST_HANG_WITH_CHILD";

/// Does nothing unless the test above runs it.
#[test]
fn hangs_with_a_child() -> anyhow::Result<()> {
    let Some(pid_file) = std::env::var_os(HANG) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut child = Process::start("sleep", command, &dir.path().join("log"))?;
    let unfinished = dir.path().join("pid");
    fs::write(&unfinished, child.pid().to_string())?;
    fs::rename(unfinished, pid_file)?;
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
