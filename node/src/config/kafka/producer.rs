//! Producer properties with secrets read: what a producer is started with.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::{Arc, Weak},
};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::{
    properties::{KafkaProperties, check_value},
    rules,
};
use crate::config::secret::{SecretRoots, Value};

/// The whole configuration of a producer. Equal configurations can share one producer; clones share the memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerConfig(Arc<BTreeMap<String, String>>);

impl ProducerConfig {
    /// Names and values, ordered by name. Values may be secrets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a property, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A way back to this configuration while somebody uses it.
    pub(crate) fn downgrade(&self) -> WeakProducerConfig {
        WeakProducerConfig(Arc::downgrade(&self.0))
    }

    #[cfg(test)]
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The configuration as rdkafka takes it.
    pub fn client_config(&self) -> ClientConfig {
        let mut config: ClientConfig = self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        config.set_log_level(self.log_level());
        config
    }

    /// rdkafka sets the level once more when librdkafka has been made, over `log_level`, and over what `debug` asked for.
    fn log_level(&self) -> RDKafkaLogLevel {
        if self.get("debug").is_some_and(|debug| !debug.is_empty()) {
            return RDKafkaLogLevel::Debug;
        }
        match self.get("log_level") {
            Some("0") => RDKafkaLogLevel::Emerg,
            Some("1") => RDKafkaLogLevel::Alert,
            Some("2") => RDKafkaLogLevel::Critical,
            Some("3") => RDKafkaLogLevel::Error,
            Some("4") => RDKafkaLogLevel::Warning,
            Some("5") => RDKafkaLogLevel::Notice,
            Some("7") => RDKafkaLogLevel::Debug,
            _ => RDKafkaLogLevel::Info,
        }
    }
}

/// A [`ProducerConfig`] that lasts as long as others use it: its secrets go with them.
#[derive(Debug)]
pub(crate) struct WeakProducerConfig(Weak<BTreeMap<String, String>>);

impl WeakProducerConfig {
    /// None: nobody uses it any more.
    pub(crate) fn upgrade(&self) -> Option<ProducerConfig> {
        self.0.upgrade().map(ProducerConfig)
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if rules::is_secret(name) { "(hidden)" } else { value });
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

impl KafkaProperties {
    /// Reads the secrets and looks whether librdkafka will find its files. Errors come with the property's name.
    pub(in crate::config) fn resolve(&self, roots: &SecretRoots) -> Result<ProducerConfig, Vec<(String, String)>> {
        let mut resolved = BTreeMap::new();
        let mut wrong = Vec::new();
        for (name, value) in self.iter() {
            match resolve(name, value, roots) {
                Ok(text) => {
                    resolved.insert(name.to_owned(), text);
                }
                Err(message) => wrong.push((name.to_owned(), message)),
            }
        }
        if wrong.is_empty() { Ok(ProducerConfig(Arc::new(resolved))) } else { Err(wrong) }
    }
}

fn resolve(name: &str, value: &Value, roots: &SecretRoots) -> Result<String, String> {
    let text = roots.resolve_text(value).map_err(|error| error.to_string())?;
    if let Value::File(path) = value {
        // librdkafka's words may repeat the value, which is a secret here.
        let refused =
            |_| format!("librdkafka does not accept what {} holds as a value of this property", path.display());
        check_value(name, &text).map_err(refused)?;
    }
    if rules::FILES.contains(&name) && text != "probe" {
        readable(Path::new(&text)).map_err(|error| format!("{text}: {error}; librdkafka could not read it either"))?;
    }
    Ok(text)
}

fn readable(path: &Path) -> std::io::Result<()> {
    if fs::metadata(path)?.is_dir() { fs::read_dir(path).map(drop) } else { fs::File::open(path).map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(given: &[(&str, &str)]) -> Result<KafkaProperties, Box<dyn std::error::Error>> {
        let parse = |(name, text): &(&str, &str)| Ok(((*name).to_owned(), text.parse()?));
        let given =
            given.iter().map(parse).collect::<Result<BTreeMap<_, _>, crate::config::secret::ReferenceError>>()?;
        KafkaProperties::complete(given).map_err(|wrong| format!("{wrong:?}").into())
    }

    #[test]
    fn equal_configurations_are_equal_and_never_show_secrets() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("password");
        fs::write(&file, "hunter2\n")?;
        let roots = SecretRoots::new(vec![dir.path().to_owned()]);
        let reference = format!("${{file:{}}}", file.display());
        let given = |password| {
            let sasl = [("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", "PLAIN"), ("sasl.username", "u")];
            properties(&[sasl[0], sasl[1], sasl[2], ("bootstrap.servers", "k:9092"), ("sasl.password", password)])
        };
        let from_file = given(&reference)?.resolve(&roots).map_err(|wrong| format!("{wrong:?}"))?;
        let literal = given("hunter2")?.resolve(&roots).map_err(|wrong| format!("{wrong:?}"))?;
        assert_eq!(from_file, literal);
        assert!(!format!("{from_file:?} {:?}", given("hunter2")?).contains("hunter2"));
        assert_eq!(from_file.client_config().get("sasl.password"), Some("hunter2"));
        Ok(())
    }

    #[test]
    fn librdkafka_logs_as_much_as_is_asked_for() -> Result<(), Box<dyn std::error::Error>> {
        let kafka = ("bootstrap.servers", "k:9092");
        for (given, level) in [
            (&[kafka][..], RDKafkaLogLevel::Info),
            (&[kafka, ("log_level", "3")], RDKafkaLogLevel::Error),
            (&[kafka, ("debug", "broker,msg")], RDKafkaLogLevel::Debug),
            (&[kafka, ("debug", "all"), ("log_level", "4")], RDKafkaLogLevel::Debug),
        ] {
            let config =
                properties(given)?.resolve(&SecretRoots::new(Vec::new())).map_err(|wrong| format!("{wrong:?}"))?;
            assert_eq!(config.client_config().log_level as u8, level as u8, "{given:?}");
        }
        Ok(())
    }

    #[test]
    fn a_file_that_librdkafka_could_not_read_is_told_before_it_starts() -> Result<(), Box<dyn std::error::Error>> {
        let properties = properties(&[("bootstrap.servers", "k:9092"), ("ssl.ca.location", "/absent/ca.pem")])?;
        let wrong = properties.resolve(&SecretRoots::new(Vec::new()));
        let message = "/absent/ca.pem: No such file or directory (os error 2); librdkafka could not read it either";
        assert_eq!(wrong, Err(vec![("ssl.ca.location".to_owned(), message.to_owned())]));
        Ok(())
    }

    /// librdkafka checks how properties fit together only when a client is made; port 9 of loopback answers nobody.
    #[test]
    fn librdkafka_makes_a_producer_of_what_was_checked() -> Result<(), Box<dyn std::error::Error>> {
        let sasl = [
            ("bootstrap.servers", "127.0.0.1:9"),
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
        ];
        for given in [&sasl[..1], &sasl[..]] {
            let config =
                properties(given)?.resolve(&SecretRoots::new(Vec::new())).map_err(|wrong| format!("{wrong:?}"))?;
            let _producer: rdkafka::producer::BaseProducer = config.client_config().create()?;
        }
        Ok(())
    }
}
