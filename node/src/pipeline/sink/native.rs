//! librdkafka's batch produce, its event queue and the file descriptor that tells of new events: the one place with `unsafe`.
//!
//! The `rdkafka` crate creates the client from a checked configuration and destroys it. Its own producers hand over one
//! record a call and one callback a report; the calls below hand over a batch and read reports as a slice, which is
//! where most of a reading's cost lies. Promises: no pointer leaves this file, every slice is copied by librdkafka
//! before the call returns, and a topic handle keeps its producer alive.

#![expect(unsafe_code, reason = "librdkafka's batch calls have no safe wrapper; each block says why it is sound")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt,
    mem::ManuallyDrop,
    ptr, slice,
    sync::{Arc, mpsc},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    bindings::{self as sys, rd_kafka_resp_err_t, rd_kafka_vtype_t, rd_kafka_vu_s__bindgen_ty_1 as Value},
    client::{Client, DefaultClientContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaType,
};

use super::{Errand, Header};

/// `RD_KAFKA_PARTITION_UA`: the partitioner decides.
const PARTITION_UNASSIGNED: i32 = -1;

/// A producer handle of librdkafka.
pub(super) struct Native {
    client: ManuallyDrop<Client<DefaultClientContext>>,
    events: *mut sys::rd_kafka_queue_t,
    errands: mpsc::Sender<Errand>,
}

/// A producer that nobody uses any more. Dropping it waits for librdkafka's threads, which may be waiting for a broker.
pub(crate) struct Remains(#[expect(dead_code, reason = "kept to be dropped")] Client<DefaultClientContext>);

impl fmt::Debug for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remains").finish_non_exhaustive()
    }
}

// SAFETY: librdkafka's client and queue handles may be used from any thread, by several at once, and so may a sender.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").finish_non_exhaustive()
    }
}

/// A Kafka topic as one producer knows it.
pub(super) struct Topic {
    handle: *mut sys::rd_kafka_topic_t,
    producer: Arc<Native>,
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").finish_non_exhaustive()
    }
}

/// One record to hand over. The slices are copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) payload: &'a [u8],
    /// Comes back in the record's delivery report.
    pub(super) opaque: u64,
}

/// What became of one record.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) opaque: u64,
    pub(super) error: Option<RDKafkaErrorCode>,
    /// The number given to [`Native::topic`].
    pub(super) topic: usize,
    pub(super) partition: i32,
    /// The record's offset; meaningless with an error.
    pub(super) offset: i64,
    pub(super) key: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// What a producer tells.
#[derive(Debug)]
pub(super) enum Event<'a> {
    Report(Report<'a>),
    /// Trouble that librdkafka handles itself, such as a broker that is away; `is_fatal` ends the producer.
    Error {
        code: RDKafkaErrorCode,
        reason: String,
        is_fatal: bool,
    },
}

impl Native {
    /// A producer with this configuration. It connects by itself, when it has to. What is left of it goes to `errands`.
    ///
    /// # Errors
    /// What librdkafka says of the configuration.
    pub(super) fn new(config: &ClientConfig, errands: mpsc::Sender<Errand>) -> KafkaResult<Arc<Self>> {
        let native_config = config.create_native_config()?;
        let wanted = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
        // SAFETY: the configuration was just made and is not yet owned by a client.
        unsafe { sys::rd_kafka_conf_set_events(native_config.ptr(), wanted) };
        let client = Client::new(config, native_config, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext)?;
        // SAFETY: the client lives; the queue reference is given back in `drop`.
        let events = unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) };
        Ok(Arc::new(Self { client: ManuallyDrop::new(client), events, errands }))
    }

    /// From now on a byte is written to `fd`, which must not block, when an event arrives in an empty queue: what lies there already must be polled first.
    pub(super) fn announce_events(&self, fd: c_int) {
        static BYTE: u8 = 1;
        // SAFETY: the payload is copied by the call; writing to a descriptor that was closed fails and is ignored there.
        unsafe { sys::rd_kafka_queue_io_event_enable(self.events, fd, (&raw const BYTE).cast(), 1) };
    }

    /// The topic `name`, which reports will call `number`.
    ///
    /// # Errors
    /// The name holds a NUL, or librdkafka refuses it.
    pub(super) fn topic(self: &Arc<Self>, name: &str, number: usize) -> KafkaResult<Topic> {
        let c_name = CString::new(name)?;
        // SAFETY: the configuration is ours until `rd_kafka_topic_new`, which takes it over when it succeeds.
        let handle = unsafe {
            let config = sys::rd_kafka_default_topic_conf_dup(self.client.native_ptr());
            sys::rd_kafka_topic_conf_set_opaque(config, ptr::without_provenance_mut(number));
            let handle = sys::rd_kafka_topic_new(self.client.native_ptr(), c_name.as_ptr(), config);
            if handle.is_null() {
                sys::rd_kafka_topic_conf_destroy(config);
            }
            handle
        };
        if handle.is_null() {
            return Err(KafkaError::ClientCreation(format!("librdkafka refuses the topic name {name:?}")));
        }
        Ok(Topic { handle, producer: Arc::clone(self) })
    }

    /// How many partitions `topic` has, asked of the brokers. Blocks for as long as `within`.
    ///
    /// # Errors
    /// No answer in time, or the topic does not exist.
    pub(super) fn partition_count(&self, topic: &str, within: Duration) -> KafkaResult<i32> {
        let metadata = self.client.fetch_metadata(Some(topic), within)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        match found.map(|t| (t.error(), t.partitions().len())) {
            Some((None, count)) if count > 0 => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
            Some((Some(error), _)) => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::from(error))),
            _ => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic)),
        }
    }

    /// Names `servers`, a list as in `bootstrap.servers`, as places where the cluster is found. Those that are known stay as they are.
    ///
    /// # Errors
    /// The list holds a NUL.
    pub(super) fn add_brokers(&self, servers: &str) -> KafkaResult<()> {
        let servers = CString::new(servers)?;
        // SAFETY: the client lives, and librdkafka copies the list.
        unsafe { sys::rd_kafka_brokers_add(self.client.native_ptr(), servers.as_ptr()) };
        Ok(())
    }

    /// Takes up to `events_max` events without blocking; `false` when more may be waiting.
    pub(super) fn poll(&self, events_max: usize, mut on_event: impl FnMut(Event<'_>)) -> bool {
        for _ in 0..events_max {
            // SAFETY: the queue lives as long as `self`.
            let event = unsafe { sys::rd_kafka_queue_poll(self.events, 0) };
            if event.is_null() {
                return true;
            }
            // SAFETY: `event` is what the call just returned; it is destroyed once, after its last use.
            unsafe {
                self.take_event(event, &mut on_event);
                sys::rd_kafka_event_destroy(event);
            }
        }
        false
    }

    /// # Safety
    /// `event` must be alive.
    unsafe fn take_event(&self, event: *mut sys::rd_kafka_event_t, on_event: &mut impl FnMut(Event<'_>)) {
        // SAFETY: all calls read from a live event; what they return lives as long as it does.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_DR => {
                    let mut messages = [ptr::null::<sys::rd_kafka_message_t>(); 512];
                    loop {
                        let taken = sys::rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len());
                        if taken == 0 {
                            break;
                        }
                        for &message in &messages[..taken] {
                            on_event(Event::Report(report(&*message)));
                        }
                    }
                }
                sys::RD_KAFKA_EVENT_ERROR => on_event(Event::Error {
                    code: sys::rd_kafka_event_error(event).into(),
                    reason: text(sys::rd_kafka_event_error_string(event)),
                    is_fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                }),
                sys::RD_KAFKA_EVENT_LOG => log(event),
                _ => {}
            }
        }
    }

    /// The error that ended this producer, if one has.
    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        let mut reason = [0 as c_char; 512];
        // SAFETY: the buffer is as long as said, and librdkafka ends the text with a NUL inside it.
        let (code, reason) = unsafe {
            let code = sys::rd_kafka_fatal_error(self.client.native_ptr(), reason.as_mut_ptr(), reason.len());
            (code, text(reason.as_ptr()))
        };
        (code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| (code.into(), reason))
    }

    /// Forgets everything that has not been delivered. Reports of it are never read.
    pub(super) fn purge(&self) {
        let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: the client lives. The call fails only for a consumer.
        unsafe { sys::rd_kafka_purge(self.client.native_ptr(), flags) };
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.purge();
        // SAFETY: the reference taken in `new` is given back once; the client is taken out once, is not used after, and is destroyed
        // after the queue, by its own drop.
        let client = unsafe {
            sys::rd_kafka_queue_io_event_enable(self.events, -1, ptr::null(), 0);
            sys::rd_kafka_queue_destroy(self.events);
            ManuallyDrop::take(&mut self.client)
        };
        // Where nobody takes errands any more, it ends here.
        drop(self.errands.send(Errand::End(Remains(client))));
    }
}

impl Topic {
    /// Hands `records` over in order, to `partition` or, with `None`, to the one that librdkafka's partitioner picks.
    /// Calls `refused` with the position of each record that was not taken and why.
    pub(super) fn produce_batch<'a>(
        &self,
        partition: Option<i32>,
        records: impl Iterator<Item = Record<'a>>,
        scratch: &mut Scratch,
        mut refused: impl FnMut(usize, RDKafkaErrorCode),
    ) {
        let messages = &mut scratch.messages;
        messages.clear();
        messages.extend(records.map(|record| sys::rd_kafka_message_t {
            err: rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: 0,
            payload: record.payload.as_ptr().cast_mut().cast(),
            len: record.payload.len(),
            key: record.key.as_ptr().cast_mut().cast(),
            key_len: record.key.len(),
            offset: 0,
            _private: opaque_out(record.opaque),
        }));
        let count = messages.len();
        let Ok(c_count) = c_int::try_from(count) else {
            return (0..count).for_each(|at| refused(at, RDKafkaErrorCode::QueueFull));
        };
        let partition = partition.unwrap_or(PARTITION_UNASSIGNED);
        // SAFETY: the array holds `count` messages whose slices live through the call (`'a`); with F_COPY librdkafka
        // copies payloads and always copies keys, and never writes through either pointer.
        let taken = unsafe {
            sys::rd_kafka_produce_batch(
                self.handle,
                partition,
                sys::RD_KAFKA_MSG_F_COPY,
                messages.as_mut_ptr(),
                c_count,
            )
        };
        if taken != c_count {
            for (at, message) in messages.iter().enumerate() {
                if message.err != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    refused(at, message.err.into());
                }
            }
        }
        messages.clear();
    }

    /// Hands one record with headers over.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) fn produce<'a>(
        &self,
        partition: Option<i32>,
        record: &Record<'a>,
        headers: impl Iterator<Item = &'a Header>,
        scratch: &mut Scratch,
    ) -> Result<(), RDKafkaErrorCode> {
        use rd_kafka_vtype_t as kind;
        let mem = |bytes: &[u8]| Value {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: bytes.as_ptr().cast_mut().cast(),
                size: bytes.len(),
            },
        };
        let field = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
        let fields = &mut scratch.fields;
        fields.clear();
        fields.push(field(kind::RD_KAFKA_VTYPE_RKT, Value { rkt: self.handle }));
        fields.push(field(kind::RD_KAFKA_VTYPE_PARTITION, Value { i32_: partition.unwrap_or(PARTITION_UNASSIGNED) }));
        fields.push(field(kind::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: sys::RD_KAFKA_MSG_F_COPY }));
        fields.push(field(kind::RD_KAFKA_VTYPE_VALUE, mem(record.payload)));
        fields.push(field(kind::RD_KAFKA_VTYPE_KEY, mem(record.key)));
        fields.push(field(kind::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: opaque_out(record.opaque) }));
        for (name, value) in headers {
            let header = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
                name: name.as_ptr(),
                val: value.as_ptr().cast(),
                size: value.len().cast_signed(),
            };
            fields.push(field(kind::RD_KAFKA_VTYPE_HEADER, Value { header }));
        }
        // SAFETY: the fields and everything they point at live through the call, which copies payload, key and headers.
        // An error is ours to read and to destroy.
        unsafe {
            let error = sys::rd_kafka_produceva(self.producer.client.native_ptr(), fields.as_ptr(), fields.len());
            if error.is_null() {
                return Ok(());
            }
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            Err(code.into())
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, destroyed once, while the producer lives (`self.producer`).
        unsafe { sys::rd_kafka_topic_destroy(self.handle) };
    }
}

/// Room for a batch and for the fields of one record, kept between calls so that these allocate nothing.
#[derive(Default)]
pub(super) struct Scratch {
    messages: Vec<sys::rd_kafka_message_t>,
    fields: Vec<sys::rd_kafka_vu_t>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// # Safety
/// `message` must come from a delivery report event that is alive.
unsafe fn report(message: &sys::rd_kafka_message_t) -> Report<'_> {
    // SAFETY: librdkafka keeps the topic, key and payload of a report until its event is destroyed.
    unsafe {
        Report {
            opaque: message._private.addr() as u64,
            error: (message.err != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| message.err.into()),
            topic: sys::rd_kafka_topic_opaque(message.rkt).addr(),
            partition: message.partition,
            offset: message.offset,
            key: bytes(message.key, message.key_len),
            payload: bytes(message.payload, message.len),
        }
    }
}

/// # Safety
/// `start` must be null or the start of `len` readable bytes that outlive `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if start.is_null() { &[] } else { unsafe { slice::from_raw_parts(start.cast(), len) } }
}

/// # Safety
/// `start` must be null or a text that ends with a NUL.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().trim().to_owned()
}

/// # Safety
/// `event` must be a live log event.
unsafe fn log(event: *mut sys::rd_kafka_event_t) {
    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the event lives, and the texts live as long as it does.
    let (facility, message) = unsafe {
        if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut message, &raw mut level) != 0 {
            return;
        }
        (text(facility), text(message))
    };
    // syslog's levels. What librdkafka calls an error it goes on trying to mend by itself.
    match level {
        0..=2 => tracing::error!(target: "librdkafka", facility, "{message}"),
        3 | 4 => tracing::warn!(target: "librdkafka", facility, "{message}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

fn opaque_out(opaque: u64) -> *mut c_void {
    // Compiles only where a pointer holds a whole reading number.
    ptr::without_provenance_mut(usize::from_ne_bytes(opaque.to_ne_bytes()))
}
