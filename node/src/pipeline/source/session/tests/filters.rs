//! Each rule of subscribing and unsubscribing as a short transcript, with the section of MQTT that asks for it.

use super::*;

/// [MQTT-3.1.2.11.2], [MQTT-3.8.4-3], [MQTT-3.3.1-10]
#[test]
fn every_connection_subscribes_to_every_filter() {
    for version in VERSIONS {
        let filters: Vec<_> = (0..20).map(|i| format!("a/{i}")).collect();
        let mut wire = Wire::new(Settings { filters: filters.clone(), ..settings(version, Qos::AtLeastOnce) });
        for is_session_present in [false, true] {
            wire.session.connect(wire.now, &mut wire.out).unwrap();
            wire.hear(&connack(version, is_session_present)).unwrap();
            let sent = wire.sent();
            let subscribed: Vec<_> = sent
                .iter()
                .flat_map(|sent| if let Sent::Subscribe(_, filters) = sent { &filters[..] } else { &[] })
                .collect();
            assert_eq!((sent.len(), subscribed), (4, filters.iter().collect()));
            assert!(!wire.session.is_settled());
            for (packet_id, count) in sent[1..].iter().zip([8, 8, 4]).map(|(sent, count)| match sent {
                Sent::Subscribe(packet_id, _) => (*packet_id, count),
                other => panic!("{other:?}"),
            }) {
                let events = wire.hear(&suback(version, packet_id, &vec![1; count])).unwrap();
                assert_eq!(events.len(), usize::from(count == 4), "one event when all are answered");
            }
            assert!(wire.session.is_settled());
        }
    }
}

/// [MQTT-3.9.3-2]
#[test]
fn refused_and_lowered_filters_are_told_apart() {
    for version in VERSIONS {
        let filters = vec!["a".into(), "b".into(), "c".into()];
        let mut wire = Wire::new(Settings { filters, ..settings(version, Qos::AtLeastOnce) });
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        wire.hear(&connack(version, false)).unwrap();
        let code = if version == Version::V5 { 0x87 } else { 0x80 };
        let events = wire.hear(&suback(version, 1, &[1, code, 0])).unwrap();
        let [Event::Subscribed(subscribed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(subscribed.refused, [RefusedFilter { filter: "b".into(), code }]);
        assert!(subscribed.notes.len() == 1 && subscribed.notes[0].contains("\"c\""));
        assert!(wire.hear(&suback(version, 1, &[1])).is_err(), "answered twice");
    }
}

/// What old and new filters have in common is subscribed to at every moment: nothing published meanwhile is for nobody.
#[test]
fn a_change_of_filters_subscribes_first_and_unsubscribes_when_that_is_answered() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::AtLeastOnce);
        let old = wire.session.filters()[0].clone();
        assert!(wire.session.change_filters(&["c#".into()]).is_err());
        wire.session.change_filters(&["b".into(), "c".into()]).unwrap();
        for (subscribe, unsubscribe) in [(2, 3), (4, 5)] {
            wire.session.connect(wire.now, &mut wire.out).unwrap();
            wire.hear(&connack(version, true)).unwrap();
            assert_eq!(wire.sent()[1..], [Sent::Subscribe(subscribe, vec!["b".into(), "c".into()])]);
            let events = wire.hear(&suback(version, subscribe, &[1, 1])).unwrap();
            assert!(matches!(events[..], [Event::Subscribed(_)]) && !wire.session.is_settled());
            assert_eq!(wire.sent(), [Sent::Unsubscribe(unsubscribe, vec![old.clone()])]);
            // The first time the answer is lost: the next connection asks again.
        }
        assert_eq!(wire.hear(&unsuback(version, 5, &[0])).unwrap(), [Event::Unsubscribed { refused: Vec::new() }]);
        assert!(wire.session.is_settled());
    }
}

#[test]
fn a_broker_that_does_not_answer_subscribe_is_left() {
    for version in VERSIONS {
        let mut wire = Wire::new(settings(version, Qos::AtLeastOnce));
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        wire.hear(&connack(version, true)).unwrap();
        let mut elapsed = |secs, is_reading| {
            wire.now += Duration::from_secs(secs);
            let ticked = wire.session.tick(wire.now, &mut wire.out, is_reading);
            // Pings are answered all the same.
            ticked.and_then(|()| wire.session.next(&mut BytesMut::from(&[0xD0, 0][..]), wire.now, &mut wire.out))
        };
        assert!(elapsed(29, true).is_ok());
        assert!(elapsed(60, false).is_ok(), "the answer may wait in the socket");
        assert!(elapsed(1, true).is_ok());
        assert!(elapsed(29, true).is_ok());
        assert_eq!(elapsed(1, true), Err(SessionError::NoAnswer { what: "SUBACK", after: Duration::from_secs(30) }));
    }
}

/// MQTT 5 section 3.8.4
#[test]
fn a_silent_broker_is_reminded_of_shared_filters() {
    for version in VERSIONS {
        let filters = vec!["$share/readings/a/+".to_owned(), "b".into(), "$share/readings/c".into()];
        let mut wire = Wire::new(Settings { filters, ..settings(version, Qos::AtLeastOnce) });
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        wire.hear(&connack(version, true)).unwrap();
        let refused = if version == Version::V5 { 0x87 } else { 0x80 };
        wire.hear(&suback(version, 1, &[0, 1, refused])).unwrap();
        wire.sent();
        let after = |wire: &mut Wire, secs| {
            wire.now += Duration::from_secs(secs);
            wire.session.tick(wire.now, &mut wire.out, true).unwrap();
            wire.sent()
        };
        let reminder = |packet_id| [Sent::Subscribe(packet_id, vec!["$share/readings/a/+".into()])];
        assert_eq!(after(&mut wire, 1), reminder(2), "plain and refused ones are not asked for again");
        assert_eq!(after(&mut wire, 10), [], "the first is not answered");
        assert_eq!(wire.hear(&suback(version, 2, &[0])).unwrap(), [], "what is known already is no event");
        assert_eq!(after(&mut wire, 2), reminder(3));
        let events = wire.hear(&suback(version, 3, &[refused])).unwrap();
        let [Event::Noted(note)] = &events[..] else { panic!("{events:?}") };
        assert!(note.contains("$share/readings/a/+"), "{note}");
        assert!(wire.session.may_have("$share/readings/a/+"), "what there was may be there still");
        assert_eq!(after(&mut wire, 10), [], "it has said no");
    }
}

/// [MQTT-3.11.3-2]
#[test]
fn a_filter_that_the_broker_does_not_unsubscribe_stays_and_is_asked_for_again() {
    let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
    let old = wire.session.filters()[0].clone();
    wire.session.change_filters(&["b".into()]).unwrap();
    wire.session.connect(wire.now, &mut wire.out).unwrap();
    wire.hear(&connack(Version::V5, true)).unwrap();
    assert!(wire.session.may_have(&old) && wire.session.may_have("b"), "nothing is answered yet");
    wire.hear(&suback(Version::V5, 2, &[1])).unwrap();
    let events = wire.hear(&unsuback(Version::V5, 3, &[0x87])).unwrap();
    let refused = vec![RefusedFilter { filter: old.clone(), code: 0x87 }];
    assert_eq!(events, [Event::Unsubscribed { refused }]);
    assert!(wire.session.may_have(&old));
    assert!(wire.session.is_settled() && !wire.session.is_unsubscribed(), "the broker has said no, and keeps it");
    wire.session.connect(wire.now, &mut wire.out).unwrap();
    wire.hear(&connack(Version::V5, true)).unwrap();
    wire.hear(&suback(Version::V5, 4, &[1])).unwrap();
    assert!(wire.sent().contains(&Sent::Unsubscribe(5, vec![old.clone()])));
    wire.hear(&unsuback(Version::V5, 5, &[0])).unwrap();
    assert!(!wire.session.may_have(&old));
}

#[test]
fn a_retiring_session_unsubscribes_reads_on_and_ends() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::AtLeastOnce);
        wire.session.change_filters(&[]).unwrap();
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        wire.hear(&connack(version, true)).unwrap();
        assert!(!wire.session.is_unsubscribed(), "nothing is answered yet");
        assert_eq!(wire.sent()[1..], [Sent::Unsubscribe(2, wire.session.settings().filters.clone())]);
        assert_eq!(readings(&wire.hear(&publish(version, 1, 1, false, "queued")).unwrap()), [0]);
        assert_eq!(wire.hear(&unsuback(version, 2, &[0])).unwrap(), [Event::Unsubscribed { refused: Vec::new() }]);
        assert!(wire.session.is_unsubscribed());
        assert_eq!(wire.ack_up_to(1), [Sent::Puback(1)]);
        let ending = wire.session.end(&mut wire.out);
        match version {
            Version::V5 => {
                assert_eq!((ending, &wire.out[..]), (Ending::Done, &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0][..]));
            }
            Version::V311 => {
                assert_eq!((ending, &wire.out[..]), (Ending::NeedsCleanConnection, &[0xE0, 0][..]));
            }
        }
    }
}
