//! The MQTT broker and Kafka go and come back. They concern all shards.

use super::{Hit, last};
use crate::{
    chaos::{bites::wait_in_flight, seconds, stage::Stage, timeline::now_ms},
    lab::rounds::Round,
};

/// Bites when publishers had to connect again.
pub(super) fn mqtt(stage: &mut Stage, chance: &mut Round) -> anyhow::Result<Hit> {
    let all: Vec<usize> = (0..stage.cluster.size()).collect();
    let in_flight = wait_in_flight(stage, &all);
    let before = stage.load.reconnects();
    let begun_ms = now_ms();
    stage.mqtt.end()?;
    stage.timeline.say(&format!("the MQTT broker is down; {in_flight} readings were in flight"));
    let down = last(chance, 1, 4_000);
    stage.mqtt.start_again()?;
    stage.timeline.say("the MQTT broker is back");
    // Publishers come back within a fraction of a second.
    last(chance, 1_000, 1_001);
    let reconnects = stage.load.reconnects() - before;
    let evidence = format!(
        "down for {}; {reconnects} publishers connected again; {in_flight} readings were in flight",
        seconds(down)
    );
    Ok(Hit { begun_ms, shards: stage.all_shards(), bit: reconnects > 0, evidence })
}

/// Bites when readings waited for it.
pub(super) fn kafka(stage: &mut Stage, chance: &mut Round) -> anyhow::Result<Hit> {
    let all: Vec<usize> = (0..stage.cluster.size()).collect();
    let in_flight = wait_in_flight(stage, &all);
    let begun_ms = now_ms();
    stage.kafka.kill()?;
    stage.timeline.say(&format!("killed Kafka; {in_flight} readings were in flight"));
    let down = last(chance, 1_000, 8_000);
    let missing = stage.load.missing().len();
    stage.kafka.start_again()?;
    stage.timeline.say(&format!("Kafka is back; {missing} readings waited"));
    let evidence = format!("down for {}; {in_flight} readings were in flight, {missing} waited", seconds(down));
    Ok(Hit { begun_ms, shards: stage.all_shards(), bit: in_flight > 0 && missing > 0, evidence })
}
