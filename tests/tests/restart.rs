//! What an operator does to a node and its pipelines: stop, start, pause, resume, edit, delete.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_proto::admin::v1::PipelineState;
use sluice_tests::{
    device::Device,
    eventually::{eventually, within},
    kafka::Kafka,
    loadtest::Load,
    mosquitto::Setup,
    node::Node,
    pipeline::Pipeline,
    scene::Scene,
};

#[test]
fn a_graceful_stop_under_load_loses_and_repeats_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::set(|pipeline| pipeline.shards = 4)?;
    let url = scene.mqtt.url();
    let mut load = Load { duration: Duration::from_secs(8), ..scene.load(&url) }.start()?;
    load.wait_published(10_000)?;
    let status = scene.node.stop()?;
    ensure!(status.success(), "not clean: {status}");
    scene.node.start_again()?;
    let report = load.finish()?;
    report.check_exact()?;
    // The ledger counts over the shard's whole life, both incarnations.
    ensure!(scene.wait_settled()? == report.delivered, "the ledger forgot the first incarnation");
    let lost: u64 = ledgers(&scene)?.iter().map(|ledger| ledger.sessions_lost).sum();
    ensure!(lost == 0, "the stop ended {lost} sessions");
    Ok(())
}

fn ledgers(scene: &Scene) -> anyhow::Result<Vec<sluice_proto::admin::v1::Ledger>> {
    let checkpoints = scene.node.admin()?.checkpoints()?;
    checkpoints.into_iter().map(|checkpoint| checkpoint.ledger.context("a ledger")).collect()
}

#[test]
fn pipelines_assignments_and_checkpoints_survive_a_restart_and_the_epoch_grows() -> anyhow::Result<()> {
    let mut scene = Scene::set(|_| ())?;
    Device::connect(scene.mqtt.port)?.publish("factory/a", 1, b"1")?;
    eventually("it arrives", || scene.topic.check_count(1))?;
    eventually("the checkpoint knows", || {
        ensure!(ledgers(&scene)?.first().is_some_and(|ledger| ledger.delivered == 1), "not yet");
        Ok(())
    })?;
    let admin = scene.node.admin()?;
    let (pipelines, before) = (admin.pipelines()?, admin.assignments()?);
    let cluster = admin.status()?.cluster_id;
    // Killed: nothing is written on the way out.
    scene.node.kill()?;
    scene.node.start_again()?;
    let admin = scene.node.admin()?;
    // Until then the log shows the task of before.
    eventually("it is assigned anew", || {
        let after = admin.assignments()?;
        ensure!(after[0].epoch > before[0].epoch && after[0].generation > before[0].generation, "{before:?} {after:?}");
        Ok(())
    })?;
    scene.wait_running()?;
    ensure!(admin.pipelines()? == pipelines, "{:?} became {:?}", pipelines, admin.pipelines()?);
    ensure!(admin.status()?.cluster_id == cluster, "another cluster");
    ensure!(ledgers(&scene)?[0].delivered == 1, "the checkpoint is gone");
    Ok(())
}

#[test]
fn a_paused_pipeline_leaves_its_readings_with_the_broker_until_it_is_resumed() -> anyhow::Result<()> {
    let mut scene = Scene::set(|_| ())?;
    let mut device = Device::connect(scene.mqtt.port)?;
    device.publish("factory/a", 1, b"1")?;
    eventually("it arrives", || scene.topic.check_count(1))?;
    scene.node.admin()?.pause("readings")?;
    // Paused is decided at once and done soon after.
    eventually("its task has stopped", || {
        let stopped = sluice_proto::admin::v1::TaskState::Stopped as i32;
        let assignments = scene.node.admin()?.assignments()?;
        ensure!(assignments.iter().all(|a| a.node.is_empty() || a.state == stopped), "{assignments:?}");
        Ok(())
    })?;
    for payload in [b"2", b"3"] {
        device.publish("factory/a", 1, payload)?;
    }
    // Also over a restart it stays paused.
    ensure!(scene.node.stop()?.success(), "a clean stop");
    scene.node.start_again()?;
    ensure!(scene.node.admin()?.pipelines()?[0].state == PipelineState::Paused as i32, "the pause was forgotten");
    std::thread::sleep(Duration::from_secs(2));
    scene.topic.check_count(1)?;
    scene.node.admin()?.resume("readings")?;
    eventually("the rest arrives", || scene.topic.check_count(3))
}

#[test]
fn a_deleted_pipeline_is_drained_and_its_session_is_ended() -> anyhow::Result<()> {
    let scene = Scene::set(|_| ())?;
    let url = scene.mqtt.url();
    let report = Load { duration: Duration::from_secs(2), ..scene.load(&url) }.run()?;
    report.check_exact()?;
    let admin = scene.node.admin()?;
    admin.delete("readings", false)?;
    eventually("it is gone", || {
        ensure!(admin.pipelines()?.is_empty(), "{:?}", admin.pipelines()?);
        ensure!(admin.assignments()?.is_empty(), "{:?}", admin.assignments()?);
        Ok(())
    })?;
    let count = scene.topic.count()?;
    // Nobody is subscribed any more: the session would still collect this one.
    Device::connect(scene.mqtt.port)?.publish("factory/late", 1, b"late")?;
    admin.apply(&scene.pipeline.yaml())?;
    scene.wait_running()?;
    Device::connect(scene.mqtt.port)?.publish("factory/new", 1, b"new")?;
    eventually("the new one arrives", || scene.topic.check_count(count + 1))?;
    let records = scene.topic.read_all()?;
    ensure!(records.iter().all(|record| record.payload != b"late"), "the old session was still there");
    Ok(())
}

#[test]
fn a_pipeline_that_never_had_what_it_needs_can_be_deleted() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new("secretive", "mqtt://127.0.0.1:1", "127.0.0.1:1", "t");
    pipeline.source.push("username: sluice".to_owned());
    pipeline.source.push("password: ${file:/run/secrets/sluice-tests/absent}".to_owned());
    let node = Node::start(&[pipeline.yaml()])?;
    let admin = node.admin()?;
    eventually("its shard has failed", || {
        let assignments = admin.assignments()?;
        ensure!(assignments.iter().any(|shard| shard.message.contains("absent")), "{assignments:?}");
        Ok(())
    })?;
    admin.delete("secretive", false)?;
    eventually("it is gone", || {
        ensure!(admin.pipelines()?.is_empty(), "it is there");
        Ok(())
    })
}

#[test]
fn a_pipeline_deleted_while_kafka_hangs_is_drained_once_kafka_is_back() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    // With a small window the broker cannot send while nothing is acknowledged, however much it queues.
    let setup = Setup { max_inflight: 20, ..Setup::default() };
    let scene = Scene::set_with(&kafka.servers(), &setup, "", |_| ())?;
    let url = scene.mqtt.url();
    let settle = Duration::from_secs(60);
    let mut load = Load { duration: Duration::from_secs(2), settle, ..scene.load(&url) }.start()?;
    load.wait_published(1_000)?;
    kafka.process()?.pause()?;
    load.wait_published(10_000)?;
    let admin = scene.node.admin()?;
    admin.delete("readings", false)?;
    // Longer than the quiet that tells a drained session from one that waits.
    std::thread::sleep(Duration::from_secs(12));
    kafka.process()?.unpause()?;
    load.finish()?.check_complete()?;
    within(Duration::from_secs(60), "it is gone", || {
        ensure!(admin.pipelines()?.is_empty(), "{:?}", admin.pipelines()?);
        Ok(())
    })
}

#[test]
fn an_edit_of_the_filters_subscribes_and_unsubscribes_the_difference() -> anyhow::Result<()> {
    let mut scene = Scene::set(|pipeline| pipeline.filters = vec!["a/#".to_owned(), "b/#".to_owned()])?;
    let mut device = Device::connect(scene.mqtt.port)?;
    device.publish("a/1", 1, b"1")?;
    eventually("it arrives", || scene.topic.check_count(1))?;
    let before = scene.node.admin()?.assignments()?;
    scene.pipeline.filters = vec!["b/#".to_owned(), "c/#".to_owned()];
    let applied = scene.node.admin()?.apply(&scene.pipeline.yaml())?;
    ensure!(applied.changed, "{applied:?}");
    ensure!(!scene.node.admin()?.apply(&scene.pipeline.yaml())?.changed, "the same manifest again changes nothing");
    let mut sent = 1;
    eventually("c arrives", || {
        device.publish("c/1", 1, b"c")?;
        sent += 1;
        let records = scene.topic.read_all()?;
        ensure!(records.iter().any(|record| record.payload == b"c"), "{sent} sent, {} there", records.len());
        Ok(())
    })?;
    device.publish("a/1", 1, b"unwanted")?;
    device.publish("b/1", 1, b"last")?;
    eventually("b arrives", || {
        let records = scene.topic.read_all()?;
        ensure!(records.iter().any(|record| record.payload == b"last"), "not yet");
        ensure!(records.iter().all(|record| record.payload != b"unwanted"), "a/# is still subscribed");
        Ok(())
    })?;
    let after = scene.node.admin()?.assignments()?;
    ensure!(before[0].node == after[0].node, "{before:?} {after:?}");
    Ok(())
}

#[test]
fn a_pipeline_file_that_changes_is_applied_and_a_wrong_one_changes_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::set(|pipeline| pipeline.filters = vec!["a/#".to_owned()])?;
    let file = scene.node.path("pipelines/00.yaml");
    let revision =
        |scene: &Scene| anyhow::Ok(scene.node.admin()?.pipelines()?.first().map(|pipeline| pipeline.revision));
    let first = revision(&scene)?;
    fs::write(&file, "name: [")?;
    eventually("the log says what is wrong", || {
        ensure!(scene.node.log()?.contains("00.yaml"), "not yet");
        Ok(())
    })?;
    ensure!(revision(&scene)? == first, "a wrong file changed the pipeline");
    // Nor does it keep a node of a cluster from starting.
    ensure!(scene.node.stop()?.success(), "a clean stop");
    scene.node.start_again()?;
    scene.wait_running()?;
    eventually("a metric tells of it", || {
        let wrong = scene.node.metric("sluice_pipelines_dir_errors")?;
        ensure!((wrong - 1.0).abs() < 0.1, "{wrong}");
        Ok(())
    })?;
    scene.pipeline.filters.push("b/#".to_owned());
    // As Kubernetes does it: another file takes the name.
    let next = scene.node.path("next.yaml");
    fs::write(&next, scene.pipeline.yaml())?;
    fs::rename(&next, &file)?;
    eventually("it is applied", || {
        ensure!(revision(&scene)? > first, "not yet");
        Ok(())
    })?;
    let mut device = Device::connect(scene.mqtt.port)?;
    eventually("b arrives", || {
        device.publish("b/1", 1, b"b")?;
        ensure!(scene.topic.read_all()?.iter().any(|record| record.payload == b"b"), "not yet");
        Ok(())
    })?;
    fs::remove_file(&file)?;
    eventually("the log says that the pipeline stays", || {
        ensure!(scene.node.log()?.contains("its file is gone"), "not yet");
        Ok(())
    })?;
    ensure!(scene.node.admin()?.pipelines()?.len() == 1, "the pipeline went with its file");
    // Refused while the old one is emptied, which takes ten seconds of quiet, and applied by itself after that.
    let admin = scene.node.admin()?;
    admin.delete(&scene.pipeline.name, false)?;
    fs::write(&file, scene.pipeline.yaml())?;
    eventually("the log says that it is refused", || {
        ensure!(scene.node.log()?.contains("is being deleted"), "not yet");
        Ok(())
    })?;
    within(Duration::from_secs(90), "it is there anew", || {
        let pipelines = admin.pipelines()?;
        ensure!(pipelines.iter().any(|pipeline| pipeline.state == PipelineState::Running as i32), "{pipelines:?}");
        Ok(())
    })
}

#[test]
fn readings_published_while_the_node_is_away_arrive_when_it_is_back() -> anyhow::Result<()> {
    let setup = Setup { is_persistent: true, ..Setup::default() };
    let mut scene = Scene::set_with(&sluice_tests::kafka::Kafka::shared()?, &setup, "", |_| ())?;
    ensure!(scene.node.stop()?.success(), "a clean stop");
    let mut device = Device::connect(scene.mqtt.port)?;
    for number in 0..2_000 {
        device.publish("factory/a", 1, format!("{number}").as_bytes())?;
    }
    // Even the MQTT broker restarts meanwhile.
    scene.mqtt.stop()?;
    scene.mqtt.start_again()?;
    scene.node.start_again()?;
    eventually("all are there", || scene.topic.check_count(2_000))?;
    let payloads: Vec<_> = scene.topic.read_all()?.into_iter().map(|record| record.payload).collect();
    let expected: Vec<_> = (0..2_000).map(|number| format!("{number}").into_bytes()).collect();
    ensure!(payloads == expected, "out of order");
    Ok(())
}
