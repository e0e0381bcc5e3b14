//! The MQTT broker of a chaos run.

use std::net::IpAddr;

use anyhow::bail;
use clap::ValueEnum;

use crate::lab::{
    hivemq::HiveMq,
    mosquitto::{Mosquitto, Setup},
};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broker {
    /// Eclipse Mosquitto, persistent, without bounds on its queues
    Mosquitto,
    /// HiveMQ Community Edition, with its file persistence
    #[value(name = "hivemq")]
    HiveMq,
    /// The same with an extension that keeps a kill -9 from costing a reading on a plain subscription
    #[value(name = "hivemq-mended")]
    HiveMqMended,
}

impl Broker {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::HiveMq => "hivemq",
            Self::HiveMqMended => "hivemq-mended",
        }
    }
}

/// A running one.
#[derive(Debug)]
pub(crate) enum Mqtt {
    Mosquitto(Mosquitto),
    HiveMq(HiveMq),
}

impl Mqtt {
    pub(crate) fn start(broker: Broker, host: IpAddr) -> anyhow::Result<Self> {
        Ok(match broker {
            Broker::Mosquitto => {
                let setup = Setup { is_persistent: true, host: Some(host), ..Setup::default() };
                Self::Mosquitto(Mosquitto::start(&setup)?)
            }
            Broker::HiveMq => Self::HiveMq(HiveMq::start(host, false)?),
            Broker::HiveMqMended => Self::HiveMq(HiveMq::start(host, true)?),
        })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Mosquitto(broker) => broker.url(),
            Self::HiveMq(broker) => broker.url(),
        }
    }

    /// Ends it in the way that it survives: Mosquitto by SIGTERM, HiveMQ by SIGKILL.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Mosquitto(broker) => broker.stop(),
            Self::HiveMq(broker) => broker.kill(),
        }
    }

    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Mosquitto(broker) => broker.start_again(),
            Self::HiveMq(broker) => broker.start_again(),
        }
    }

    /// What it has logged; only Mosquitto says who connects.
    pub(crate) fn connection_log(&self) -> anyhow::Result<String> {
        match self {
            Self::Mosquitto(broker) => broker.log(),
            Self::HiveMq(_) => bail!("HiveMQ does not log who connects"),
        }
    }
}
