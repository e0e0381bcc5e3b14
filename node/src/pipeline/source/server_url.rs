//! Address of an MQTT broker: `mqtt://host:port` or `mqtts://host:port`.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// Port of `mqtt://` where none is given.
pub const PORT_TCP: u16 = 1883;
/// Port of `mqtts://` where none is given.
pub const PORT_TLS: u16 = 8883;

/// Address of an MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    host: String,
    port: u16,
    is_tls: bool,
}

/// Text that is not such an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not the address of an MQTT broker: {why}; write mqtt://host:1883 or mqtts://host:8883")]
pub struct ServerUrlError {
    url: String,
    why: String,
}

impl ServerUrl {
    /// Host name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// TLS?
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        // Names and passwords belong elsewhere, and must not come back in an error.
        let shown = if text.contains('@') { "…@…" } else { text };
        let fault = |why: &str| ServerUrlError { url: shown.to_owned(), why: why.to_owned() };
        let url = Url::parse(text).map_err(|error| fault(&error.to_string()))?;
        let (is_tls, port) = match url.scheme() {
            "mqtt" => (false, PORT_TCP),
            "mqtts" => (true, PORT_TLS),
            scheme => return Err(fault(&format!("the scheme {scheme:?} is unknown"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("user name and password have keys of their own"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(fault("something follows host and port"));
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Domain(name)) if is_host_name(name) => name.to_owned(),
            _ => return Err(fault("the host is missing or not a host name")),
        };
        match url.port().unwrap_or(port) {
            0 => Err(fault("port 0 cannot be connected to")),
            port => Ok(Self { host, port, is_tls }),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_default_ports() {
        for (text, shown) in [
            ("mqtt://broker", "mqtt://broker:1883"),
            ("mqtts://broker.example.com", "mqtts://broker.example.com:8883"),
            ("mqtt://10.0.0.1:2883/", "mqtt://10.0.0.1:2883"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
            ("mqtt://[fe80::1]:1884", "mqtt://[fe80::1]:1884"),
            ("mqtt://my_broker:1", "mqtt://my_broker:1"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().map(|url| url.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "broker",
            "broker:1883",
            "tcp://broker",
            "http://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://broker:0",
            "mqtt://broker:99999",
            "mqtt://broker/path",
            "mqtt://broker?x",
            "mqtt://bro ker",
            "mqtt://user:pass@broker",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
        let error = "mqtt://user:pass@broker".parse::<ServerUrl>().map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| !error.contains("pass@")));
    }
}
