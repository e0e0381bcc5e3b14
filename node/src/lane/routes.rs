//! The mapping's answers, kept by MQTT topic: a device sends under the same topic for ever, so a reading's route is mostly a look-up.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use bytes::Bytes;

use super::headers;
use crate::{
    config::manifest::MetadataHeader,
    pipeline::{
        mapping::Mapping,
        sink::{Header, Sink, TopicNo},
    },
};

/// Topics kept. About 200 bytes each; a working set beyond this is cheaper to route again than to keep.
const ROUTES_MAX: usize = 65_536;

/// Where the readings of one MQTT topic go.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) mqtt_topic: Box<str>,
    /// The Kafka topic, or why there is none.
    pub(super) topic: Result<TopicNo, String>,
    pub(super) key: Rc<[u8]>,
    /// What all records of the route have; none: no header.
    pub(super) headers: Option<Rc<[Header]>>,
}

/// Routes of one pipeline, over one sink's topic numbers.
#[derive(Debug)]
pub(super) struct Routes {
    mapping: Arc<Mapping>,
    /// Records tell their MQTT topic.
    tells_topic: bool,
    known: HashMap<Bytes, Rc<Route>>,
}

impl Routes {
    pub(super) fn new(mapping: Arc<Mapping>, metadata_headers: &[MetadataHeader]) -> Self {
        let tells_topic = metadata_headers.contains(&MetadataHeader::Topic);
        Self { mapping, tells_topic, known: HashMap::new() }
    }

    /// They are the answers of this very mapping.
    pub(super) fn is_of(&self, mapping: &Arc<Mapping>) -> bool {
        Arc::ptr_eq(&self.mapping, mapping)
    }

    /// Where readings under `mqtt_topic` go.
    pub(super) fn route(&mut self, mqtt_topic: &Bytes, sink: &mut Sink) -> Rc<Route> {
        if let Some(route) = self.known.get(mqtt_topic) {
            return Rc::clone(route);
        }
        if self.known.len() >= ROUTES_MAX {
            self.known.clear();
        }
        let (route, is_lasting) = self.find(mqtt_topic, sink);
        let route = Rc::new(route);
        if !is_lasting {
            return route;
        }
        // A copy: the given topic is a slice of a read buffer, which it would keep from being used again.
        self.known.insert(Bytes::copy_from_slice(mqtt_topic), Rc::clone(&route));
        route
    }

    /// The route, and whether it is the mapping's word, which lasts, or the sink's, which may pass.
    fn find(&self, mqtt_topic: &Bytes, sink: &mut Sink) -> (Route, bool) {
        let text = String::from_utf8_lossy(mqtt_topic);
        let unroutable = |why: String| Route {
            mqtt_topic: text.as_ref().into(),
            topic: Err(why),
            key: mqtt_topic.to_vec().into(),
            headers: None,
        };
        match self.mapping.route(&text) {
            Ok(found) => match sink.topic(&found.topic) {
                Ok(topic) => {
                    let mut all: Vec<_> =
                        found.headers.into_iter().filter_map(|(name, value)| headers::header(&name, value)).collect();
                    all.extend(self.tells_topic.then(|| headers::of_topic(&text)));
                    let headers = (!all.is_empty()).then(|| all.into());
                    (Route { mqtt_topic: text.as_ref().into(), topic: Ok(topic), key: found.key.into(), headers }, true)
                }
                Err(error) => (unroutable(error.to_string()), false),
            },
            Err(error) => (unroutable(error.to_string()), true),
        }
    }
}
