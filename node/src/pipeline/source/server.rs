//! Addresses of MQTT brokers: `mqtt://host[:1883]` and `mqtts://host[:8883]`.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// Where an MQTT broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why a text is not a broker's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not a URL with a host.
    #[error("{0:?} is not a broker's URL; give mqtt://host:1883 or mqtts://host:8883")]
    NotAUrl(String),
    /// Another scheme.
    #[error("{url:?} has the scheme {scheme}, which is not supported; give mqtt:// (TCP) or mqtts:// (TLS)")]
    Scheme {
        /// What the user gave.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// User name or password in the URL.
    #[error("a broker's URL must not hold user name or password, which would be shown; use `username` and `password`")]
    Credentials,
    /// Path, query or fragment.
    #[error("{0:?} has more than scheme, host and port; remove the rest")]
    More(String),
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let not_a_url = || ServerError::NotAUrl(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(not_a_url)?;
        if rest.contains('@') {
            return Err(ServerError::Credentials);
        }
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            scheme => return Err(ServerError::Scheme { url: text.to_owned(), scheme: scheme.to_owned() }),
        };
        // As https, for the url crate checks and normalises hosts of schemes that it knows only.
        let url = Url::parse(&format!("https://{rest}")).map_err(|_| not_a_url())?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ServerError::More(text.to_owned()));
        }
        let host = match url.host().ok_or_else(not_a_url)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        // The url crate hides the port that is the scheme's default, which is https's here.
        let default = if rest.trim_end_matches('/').ends_with(":443") {
            443
        } else if is_tls {
            8883
        } else {
            1883
        };
        let port = url.port().unwrap_or(default);
        if port == 0 {
            return Err(not_a_url());
        }
        Ok(Self { is_tls, host, port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_normalised() {
        for (text, want) in [
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("tcp://Broker.Example.com:11883/", "mqtt://broker.example.com:11883"),
            ("mqtts://mqtt.example.com:8883", "mqtts://mqtt.example.com:8883"),
            ("ssl://10.0.0.1", "mqtts://10.0.0.1:8883"),
            ("mqtts://a:443", "mqtts://a:443"),
            ("mqtt://[::1]:1883", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(text.parse::<Server>().map(|server| server.to_string()), Ok(want.to_owned()));
        }
    }

    #[test]
    fn bad_addresses_say_why() {
        for text in
            ["localhost:1883", "localhost", "", "mqtt://", "mqtt://a:99999", "mqtt://a b", "mqtt://a:0", "mqtt://:1883"]
        {
            assert_eq!(text.parse::<Server>(), Err(ServerError::NotAUrl(text.to_owned())), "{text}");
        }
        let scheme = |text: &str, scheme: &str| ServerError::Scheme { url: text.to_owned(), scheme: scheme.to_owned() };
        assert_eq!("ws://a".parse::<Server>(), Err(scheme("ws://a", "ws")));
        assert_eq!("http://a".parse::<Server>(), Err(scheme("http://a", "http")));
        assert_eq!("mqtt://u:p@a".parse::<Server>(), Err(ServerError::Credentials));
        assert_eq!("mqtt://a/b".parse::<Server>(), Err(ServerError::More("mqtt://a/b".to_owned())));
    }
}
