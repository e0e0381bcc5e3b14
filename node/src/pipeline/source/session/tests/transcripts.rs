//! Each rule of the session as a short transcript, with the section of MQTT that asks for it.

use super::*;

/// [MQTT-4.6.0-2], [MQTT-4.6.0-3]
#[test]
fn acks_leave_in_receive_order_and_only_up_to_the_watermark() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        for (qos, packet_id) in [(1, 7), (0, 0), (2, 5), (1, 6), (1, 1)] {
            wire.publish(qos, packet_id, false, "x").unwrap();
        }
        assert_eq!((wire.session.unacked(), wire.session.next_seq()), (4, Seq(5)));
        assert_eq!(wire.ack_up_to(0), []);
        assert_eq!(wire.ack_up_to(2), [Sent::Puback(7)]);
        assert_eq!(wire.ack_up_to(1), [], "a watermark does not go back");
        assert_eq!(wire.ack_up_to(4), [Sent::Pubrec(5), Sent::Puback(6)]);
        assert_eq!(wire.ack_up_to(5), [Sent::Puback(1)]);
        assert_eq!(wire.ack_up_to(5), []);
        assert_eq!((wire.session.unacked(), wire.session.window_used()), (0, 1));
    }
}

/// [MQTT-4.3.3-8] to [MQTT-4.3.3-12]
#[test]
fn qos_2_runs_through_its_four_packets_and_frees_the_id() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        for seq in 0..3 {
            assert_eq!(wire.publish(2, 9, false, "x").unwrap().seq, Seq(seq));
            assert_eq!(wire.ack_up_to(seq + 1), [Sent::Pubrec(9)]);
            assert!(wire.hear(&pubrel(9)).unwrap().is_empty());
            assert_eq!(wire.sent(), [Sent::Pubcomp(9)]);
        }
    }
}

/// [MQTT-4.3.3-12]: a release is answered whether or not the id is known, or the broker asks for ever.
#[test]
fn a_release_of_an_unknown_id_is_answered() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        wire.reconnect(true);
        wire.hear(&pubrel(77)).unwrap();
        let expected = if version == Version::V5 { Sent::PubcompUnknown(77) } else { Sent::Pubcomp(77) };
        assert_eq!(wire.sent(), [expected]);
    }
}

/// [MQTT-4.3.3-10]: by packet id, with DUP or without.
#[test]
fn a_qos_2_repeat_is_not_handed_out_and_is_acknowledged_with_its_first_receipt() {
    for (version, is_duplicate) in [(Version::V5, true), (Version::V5, false), (Version::V311, true)] {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        wire.publish(2, 9, false, "x").unwrap();
        assert_eq!(wire.publish(2, 9, is_duplicate, "x"), None);
        assert_eq!(wire.sent(), []);
        assert_eq!(wire.session.ack_up_to(Seq(1), &mut wire.out), 1, "one reading, two receipts");
        assert_eq!(wire.sent(), [Sent::Pubrec(9), Sent::Pubrec(9)]);
        assert_eq!(wire.publish(2, 9, is_duplicate, "x"), None);
        assert_eq!(wire.sent(), [Sent::Pubrec(9)], "delivered already: at once");
    }
}

/// A repeat waits behind what came before it, although its own reading is delivered [MQTT-4.6.0-3].
#[test]
fn a_repeat_is_acknowledged_in_its_place() {
    let mut wire = Wire::open(Version::V5, Qos::ExactlyOnce);
    wire.publish(2, 1, false, "a").unwrap();
    wire.ack_up_to(1);
    wire.publish(2, 2, false, "b").unwrap();
    assert_eq!(wire.publish(2, 1, true, "a"), None);
    assert_eq!(wire.sent(), []);
    assert_eq!(wire.ack_up_to(2), [Sent::Pubrec(2), Sent::Pubrec(1)]);
}

/// An ack that outlived its id would acknowledge the id's next reading before that is delivered.
#[test]
fn a_repeat_of_a_released_id_does_not_acknowledge_the_next_reading_with_that_id() {
    let mut wire = Wire::open(Version::V5, Qos::ExactlyOnce);
    wire.publish(2, 1, false, "a").unwrap();
    wire.ack_up_to(1);
    wire.publish(1, 2, false, "b").unwrap();
    assert_eq!(wire.publish(2, 1, true, "a"), None);
    wire.hear(&pubrel(1)).unwrap();
    assert_eq!(wire.sent(), [Sent::Pubcomp(1)]);
    assert_eq!(wire.publish(2, 1, false, "c").unwrap().seq, Seq(2));
    assert_eq!(wire.ack_up_to(2), [Sent::Puback(2)]);
    assert_eq!(wire.ack_up_to(3), [Sent::Pubrec(1)]);
}

/// [MQTT-4.4.0-1]: the broker sends `QoS` 1 again; the old receipt's ack would be for a packet that the new connection has not seen.
#[test]
fn nothing_received_on_an_old_connection_is_acknowledged_on_a_new_one() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        wire.publish(1, 1, false, "a").unwrap();
        wire.publish(2, 2, false, "b").unwrap();
        wire.session.connection_lost();
        assert_eq!(wire.ack_up_to(2), [], "there is no connection to write to");
        wire.reconnect(true);
        assert_eq!(wire.ack_up_to(2), []);
        assert_eq!(wire.publish(1, 1, true, "a").unwrap().seq, Seq(2), "QoS 1 is a new receipt");
        assert_eq!(wire.publish(2, 2, true, "b"), None, "QoS 2 is held");
        assert_eq!(wire.ack_up_to(3), [Sent::Puback(1), Sent::Pubrec(2)]);
    }
}

#[test]
fn what_an_old_connection_left_unwritten_is_thrown_away() {
    let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
    wire.publish(1, 1, false, "a").unwrap();
    wire.session.ack_up_to(Seq(1), &mut wire.out);
    wire.session.connect(wire.now, &mut wire.out).unwrap();
    assert_eq!(wire.sent(), [Sent::Connect { is_clean: false }]);
}

/// [MQTT-3.2.2-4]
#[test]
fn a_lost_session_is_flagged_and_its_ids_are_forgotten() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        wire.publish(2, 2, false, "b").unwrap();
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        let events = wire.hear(&connack(version, false)).unwrap();
        let [Event::Connected(granted)] = &events[..] else { panic!("{events:?}") };
        assert!(granted.is_session_lost && !granted.is_session_present);
        assert!(granted.notes[0].contains("lost the session"), "{:?}", granted.notes);
        assert_eq!(wire.publish(2, 2, false, "b").unwrap().seq, Seq(1));
    }
}

#[test]
fn a_first_session_is_not_missed_unless_it_was_expected() {
    for expects_session in [false, true] {
        let mut wire = Wire::new(Settings { expects_session, ..settings(Version::V5, Qos::AtLeastOnce) });
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        let events = wire.hear(&connack(Version::V5, false)).unwrap();
        assert!(matches!(&events[..], [Event::Connected(granted)] if granted.is_session_lost == expects_session));
    }
}

/// A broker with an old snapshot, or another node in between, used the id up: by id alone the new reading would be lost.
#[test]
fn another_reading_under_a_held_id_is_handed_out() {
    let mut wire = Wire::open(Version::V5, Qos::ExactlyOnce);
    wire.publish(2, 2, false, "old").unwrap();
    wire.reconnect(true);
    assert_eq!(wire.publish(2, 2, false, "new").unwrap().seq, Seq(1));
    assert_eq!(wire.ack_up_to(1), []);
    assert_eq!(wire.ack_up_to(2), [Sent::Pubrec(2)]);
}

#[test]
fn abandoned_readings_are_handed_out_again_and_delivered_ones_are_not() {
    let mut wire = Wire::open(Version::V5, Qos::ExactlyOnce);
    wire.publish(2, 1, false, "a").unwrap();
    wire.publish(2, 2, false, "b").unwrap();
    wire.publish(1, 3, false, "c").unwrap();
    assert_eq!(wire.ack_up_to(1), [Sent::Pubrec(1)]);
    wire.session.abandon();
    assert_eq!(wire.ack_up_to(3), [], "the watermark passes what is abandoned, and nothing is acknowledged");
    assert_eq!(wire.hear(&[]), Err(SessionError::NotConnected));
    wire.reconnect(true);
    assert_eq!(wire.publish(2, 1, true, "a"), None);
    assert_eq!(wire.publish(2, 2, true, "b").unwrap().seq, Seq(3));
    assert_eq!(wire.publish(1, 3, true, "c").unwrap().seq, Seq(4));
    assert_eq!(wire.sent(), [Sent::Pubrec(1)]);
    assert_eq!(wire.ack_up_to(5), [Sent::Pubrec(2), Sent::Puback(3)]);
}

/// PUBCOMP lets the broker use the id again: it waits for the delivery like every ack.
#[test]
fn a_release_before_delivery_is_completed_after_it() {
    let mut wire = Wire::open(Version::V5, Qos::ExactlyOnce);
    wire.publish(2, 1, false, "a").unwrap();
    wire.reconnect(true);
    wire.hear(&pubrel(1)).unwrap();
    assert_eq!(wire.sent(), []);
    assert_eq!(wire.ack_up_to(1), [Sent::Pubcomp(1)]);
    assert_eq!(wire.session.held(), 0);
}

/// [MQTT-3.1.2.4]
#[test]
fn a_session_that_is_to_end_connects_clean_and_subscribes_to_nothing() {
    for version in VERSIONS {
        let settings = Settings { ends_session: true, expects_session: true, ..settings(version, Qos::AtLeastOnce) };
        let mut wire = Wire::new(settings);
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        assert_eq!(wire.sent(), [Sent::Connect { is_clean: true }]);
        let events = wire.hear(&connack(version, false)).unwrap();
        assert!(matches!(&events[..], [Event::Connected(granted)] if !granted.is_session_lost));
        wire.session.disconnect(&mut wire.out);
        assert_eq!(wire.sent(), [Sent::Disconnect]);
    }
}

/// [MQTT-3.14.4-1]: nothing after DISCONNECT.
#[test]
fn disconnect_keeps_the_session_and_says_no_more() {
    let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
    wire.publish(1, 1, false, "a").unwrap();
    wire.session.disconnect(&mut wire.out);
    assert_eq!(&wire.out[..], [0xE0, 0]);
    wire.sent();
    assert_eq!(wire.ack_up_to(1), []);
    wire.session.disconnect(&mut wire.out);
    assert_eq!((wire.sent(), wire.session.deadline()), (Vec::new(), None));
}

/// [MQTT-3.2.2.3]
#[test]
fn connack_tells_what_is_not_granted() {
    let mut wire = Wire::new(unshared(settings(Version::V5, Qos::ExactlyOnce)));
    wire.session.connect(wire.now, &mut wire.out).unwrap();
    let properties = [0x11, 0, 0, 0x1C, 0x20, 0x21, 0, 20, 0x24, 1, 0x13, 0, 10, 0x12, 0, 1, b'z'];
    let connack = [&[0x20, 3 + 17, 0, 0, 17], &properties[..]].concat();
    let events = wire.hear(&connack).unwrap();
    let [Event::Connected(granted)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(granted.maximum_qos, Qos::AtLeastOnce);
    assert_eq!(granted.keep_alive, Duration::from_secs(10));
    assert_eq!(granted.session_expiry, Some(Duration::from_secs(7_200)));
    assert_eq!(granted.assigned_client_id.as_deref(), Some("z"));
    assert_eq!(granted.notes.len(), 3, "{:?}", granted.notes);
    assert_eq!(wire.session.deadline(), Some(wire.now + Duration::from_secs(5)), "the broker's keep-alive is obeyed");
}

/// [MQTT-3.2.2.3.13], [MQTT-3.2.2.3.11]
#[test]
fn a_broker_without_what_the_filters_need_is_refused() {
    for (property, filters) in [(0x2A, ["$share/g/a"]), (0x28, ["a/#"]), (0x28, ["$share/g/+"])] {
        let filters = filters.map(str::to_owned).to_vec();
        let mut wire = Wire::new(Settings { filters, ..settings(Version::V5, Qos::AtLeastOnce) });
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        let error = wire.hear(&[0x20, 5, 0, 0, 2, property, 0]).unwrap_err();
        assert!(matches!(error, SessionError::NotOffered { .. }) && !error.is_retryable(), "{error}");
    }
}

/// [MQTT-3.2.2.2], MQTT 3.1.1 section 3.2.2.3
#[test]
fn a_refusal_says_what_to_do() {
    let cases: [(Version, &[u8], u8, bool, &str); 6] = [
        (Version::V5, &[0x20, 3, 0, 0x86, 0], 0x86, false, "username and password"),
        (Version::V5, &[0x20, 8, 0, 0x87, 5, 0x1F, 0, 2, b'n', b'o'], 0x87, false, "\"no\""),
        (Version::V5, &[0x20, 3, 0, 0x88, 0], 0x88, true, "server unavailable"),
        (Version::V5, &[0x20, 2, 0, 1], 0x84, false, "version"),
        (Version::V311, &[0x20, 2, 0, 4], 0x86, false, "username and password"),
        (Version::V311, &[0x20, 2, 0, 5], 0x87, false, "not authorized"),
    ];
    for (version, connack, code, is_retryable, word) in cases {
        let mut wire = Wire::new(settings(version, Qos::AtLeastOnce));
        wire.session.connect(wire.now, &mut wire.out).unwrap();
        let error = wire.hear(connack).unwrap_err();
        assert!(matches!(&error, SessionError::Refused(refused) if refused.code == code), "{error:?}");
        assert_eq!(error.is_retryable(), is_retryable);
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// [MQTT-3.14.2.1], with the forms that rumqttc's codec does not read.
#[test]
fn a_disconnect_of_any_length_is_understood() {
    let cases: [(&[u8], u8, Option<&str>); 5] = [
        (&[0xE0, 0], 0x00, None),
        (&[0xE0, 1, 0x8E], 0x8E, None),
        (&[0xE0, 2, 0x8B, 0], 0x8B, None),
        (&[0xE0, 2, 0xFE, 0], 0xFE, None),
        (&[0xE0, 7, 0x98, 5, 0x1F, 0, 2, b'h', b'i'], 0x98, Some("hi")),
    ];
    for (packet, code, reason) in cases {
        let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
        let events = wire.hear(packet).unwrap();
        let [Event::Disconnected(disconnected)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((disconnected.code, disconnected.reason.as_deref()), (code, reason));
        assert_eq!(disconnected.is_taken_over(), code == 0x8E);
        assert!(!wire.session.is_connected());
    }
}

#[test]
fn a_disconnect_tells_where_the_broker_points() {
    let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
    let events = wire.hear(&[0xE0, 7, 0x9D, 5, 0x1C, 0, 2, b'm', b'2']).unwrap();
    let [Event::Disconnected(disconnected)] = &events[..] else { panic!("{events:?}") };
    let told = "the MQTT broker ended the connection: server moved (0x9D), pointing to \"m2\"";
    assert_eq!(disconnected.to_string(), told);
}

/// Another connection went on with the ids: what is remembered of them may no longer be true.
#[test]
fn a_session_taken_over_forgets_its_ids() {
    let mut wire = Wire::open(Version::V5, Qos::ExactlyOnce);
    wire.publish(2, 2, false, "b").unwrap();
    wire.hear(&[0xE0, 1, 0x8E]).unwrap();
    wire.reconnect(true);
    assert_eq!(wire.publish(2, 2, false, "b").unwrap().seq, Seq(1));
}

#[test]
fn what_the_protocol_forbids_ends_the_connection_with_a_clear_word() {
    let cases: [(&[u8], &str); 11] = [
        (&[0xF0, 2, 0x18, 0], "AUTH"),
        (&[0x20, 3, 0, 0, 0], "second CONNACK"),
        (&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 1], "topic alias"),
        (&[0x30, 4, 0, 1, b'+', 0], "wildcard"),
        (&[0x30, 4, 0, 1, 0xFF, 0], "UTF-8"),
        (&[0x30, 3, 0, 0, 0], "without topic"),
        (&[0x32, 6, 0, 1, b'a', 0, 0, 0], "packet identifier 0"),
        (&[0x36, 6, 0, 1, b'a', 0, 1, 0], "QoS 3"),
        (&[0x30, 2, 0, 9], "too early"),
        (&[0x30, 5, 0, 1, b'a', 9, 1], "too early"),
        (&[0x90, 4, 0, 9, 0, 0], "nothing that was asked"),
    ];
    for (packet, word) in cases {
        let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
        let error = wire.hear(packet).unwrap_err();
        assert!(matches!(error, SessionError::Protocol(_)) && error.to_string().contains(word), "{error}");
        assert_eq!(wire.hear(&[0xD0, 0]), Err(SessionError::NotConnected));
    }
    let mut wire = Wire::new(settings(Version::V5, Qos::AtLeastOnce));
    wire.session.connect(wire.now, &mut wire.out).unwrap();
    assert!(wire.hear(&publish(Version::V5, 1, 1, false, "x")).is_err(), "before CONNACK [MQTT-3.2.0-1]");
}

#[test]
fn a_packet_over_the_limit_is_refused_before_it_is_there() {
    let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
    let error = wire.hear(&[0x30, 0xFF, 0xFF, 0x7F]).unwrap_err();
    assert_eq!(error, SessionError::PacketTooLarge { bytes: 2_097_155, max: 1 << 20 });
}

/// [MQTT-3.3.4-9]: borne with, and said once per connection.
#[test]
fn a_broker_that_exceeds_the_window_is_noted_once() {
    let mut wire = Wire::open(Version::V5, Qos::AtLeastOnce);
    let packets: Vec<u8> = (1..=150).flat_map(|id| publish(Version::V5, 1, id, false, "x")).collect();
    let events = wire.hear(&packets).unwrap();
    assert_eq!(readings(&events).len(), 150);
    assert!(matches!(events[101], Event::Noted(_)), "{:?}", events[101]);
    assert_eq!((events.len(), wire.session.window_used()), (151, 150));
}

/// A receipt of a reading that was not handed out would have its repeat acknowledged and never delivered.
#[test]
fn a_reading_that_ends_a_flooded_connection_is_handed_out_on_the_next() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, Qos::ExactlyOnce);
        let packets = publish(version, 1, 1, false, "x").repeat(ring::OWED_MAX);
        wire.hear(&packets).unwrap();
        let next = wire.session.next_seq();
        assert!(matches!(wire.hear(&publish(version, 2, 9, false, "y")), Err(SessionError::Protocol(_))));
        assert_eq!((wire.session.next_seq(), wire.session.held()), (next, 0));
        wire.reconnect(true);
        assert_eq!(wire.publish(2, 9, true, "y").unwrap().seq, next);
    }
}

/// [MQTT-3.1.2-20]
#[test]
fn the_connection_is_kept_alive_and_given_up_when_nothing_answers() {
    let mut wire = Wire::new(unshared(settings(Version::V5, Qos::AtLeastOnce)));
    assert_eq!(wire.session.deadline(), None);
    wire.session.connect(wire.now, &mut wire.out).unwrap();
    let connack_due = wire.now + wire.session.settings().connack_within;
    assert_eq!(wire.session.deadline(), Some(connack_due));
    let error = wire.session.tick(connack_due, &mut wire.out, true).unwrap_err();
    assert_eq!(error.to_string(), "no CONNACK from the MQTT broker for 3s");
    wire.reconnect(false);
    let start = wire.now;
    let at = |secs| start + Duration::from_secs(secs);
    assert_eq!(wire.session.deadline(), Some(at(30)));
    wire.session.tick(at(30), &mut wire.out, true).unwrap();
    assert_eq!(wire.sent(), [Sent::Pingreq]);
    wire.now = at(31);
    wire.hear(&[0xD0, 0]).unwrap();
    assert_eq!(wire.session.deadline(), Some(at(60)));
    wire.session.tick(at(60), &mut wire.out, true).unwrap();
    assert!(matches!(wire.session.tick(at(90), &mut wire.out, true), Err(SessionError::NoAnswer { .. })));
    assert!(!wire.session.is_connected());
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let settings = Settings { password: Some(b"hunter2".to_vec()), ..settings(Version::V5, Qos::AtLeastOnce) };
    let session = Session::new(settings).unwrap();
    assert!(!format!("{session:?}").contains("hunter2") && !format!("{session:?}").contains("104, 117, 110"));
}

#[test]
fn settings_that_mqtt_cannot_express_are_refused() {
    let good = settings(Version::V311, Qos::AtLeastOnce);
    assert!(Session::new(Settings { client_id: String::new(), ..good.clone() }).is_err());
    assert!(Session::new(Settings { client_id: "x".repeat(65_536), ..good.clone() }).is_err());
    assert!(Session::new(Settings { password: Some(vec![1]), ..good.clone() }).is_err());
    assert!(Session::new(Settings { filters: vec!["a/#/b".into()], ..good.clone() }).is_err());
    // What earlier revisions have left at the broker may be more than is wanted at a time.
    let mut session = Session::new(Settings { filters: vec!["a".into(); 1_025], ..good }).unwrap();
    assert!(session.change_filters(&vec!["a".into(); FILTERS_MAX + 1]).is_err());
}
