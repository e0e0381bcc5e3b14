//! A bridge from MQTT to Kafka with faults on purpose, to show that loadtest's verdict can fail.
//!
//! It acknowledges on receipt: what every careless bridge does.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rumqttc::v5::mqttbytes::{
    self, QoS,
    v5::{Connect, Filter, Packet, PubAck, Publish, Subscribe},
};

/// What it does to the hundredth reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Acknowledges it and forgets it.
    Drop,
    /// Hands it to Kafka twice.
    Repeat,
    /// Hands it to Kafka after the next 200.
    Delay,
}

/// A running bridge.
pub(crate) struct BadBridge {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl BadBridge {
    /// Subscribes, and carries everything from then on.
    pub(crate) fn start(mqtt_port: u16, kafka: &str, topic: &str, fault: Fault) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", mqtt_port))?;
        let connect =
            Connect { keep_alive: 0, client_id: "bad-bridge".to_owned(), clean_start: true, properties: None };
        let mut input = BytesMut::new();
        send(&mut stream, &Packet::Connect(connect, None, None))?;
        receive(&mut stream, &mut input)?.context("no CONNACK")?;
        let mut subscribe = Subscribe::new(Filter::new("factory/#", QoS::AtLeastOnce), None);
        subscribe.pkid = 1;
        send(&mut stream, &Packet::Subscribe(subscribe))?;
        receive(&mut stream, &mut input)?.context("no SUBACK")?;
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", kafka).set("enable.idempotence", "true").create()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (stop, topic) = (Arc::clone(&stop), topic.to_owned());
            thread::spawn(move || carry(&mut stream, &mut input, &producer, &topic, fault, &stop))
        };
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops it; fails if it had broken down.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow::anyhow!("the bad bridge panicked"))?
    }
}

fn carry(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    producer: &BaseProducer,
    topic: &str,
    fault: Fault,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut number = 0_u64;
    let mut delayed: Option<Publish> = None;
    while !stop.load(Relaxed) {
        producer.poll(Duration::ZERO);
        let Some(packet) = receive(stream, input)? else { continue };
        let Packet::Publish(publish) = packet else { continue };
        number += 1;
        let copies = match fault {
            Fault::Drop if number == 100 => 0,
            Fault::Repeat if number == 100 => 2,
            Fault::Delay if number == 100 => {
                delayed = Some(publish.clone());
                0
            }
            _ => 1,
        };
        for _ in 0..copies {
            produce(producer, topic, &publish)?;
        }
        if number == 300
            && let Some(delayed) = delayed.take()
        {
            produce(producer, topic, &delayed)?;
        }
        send(stream, &Packet::PubAck(PubAck::new(publish.pkid, None)))?;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(())
}

fn produce(producer: &BaseProducer, topic: &str, publish: &Publish) -> anyhow::Result<()> {
    let record = BaseRecord::to(topic).key(publish.topic.as_ref()).payload(publish.payload.as_ref());
    producer.send(record).map_err(|(error, _)| error.into())
}

fn send(stream: &mut TcpStream, packet: &Packet) -> anyhow::Result<()> {
    let mut out = BytesMut::new();
    packet.write(&mut out, None).context("encoding")?;
    Ok(stream.write_all(&out)?)
}

/// The next packet; `None`: none came before the read timeout.
fn receive(stream: &mut TcpStream, input: &mut BytesMut) -> anyhow::Result<Option<Packet>> {
    let mut chunk = [0; 65_536];
    loop {
        match Packet::read(input, None) {
            Ok(packet) => return Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => {}
            Err(error) => bail!("{error:?}"),
        }
        match stream.read(&mut chunk) {
            Ok(0) => bail!("the MQTT broker closed the connection"),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
