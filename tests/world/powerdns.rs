//! PowerDNS with its HTTP API, serving zones that it keeps in a file of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::dns;
use super::made::write_private;
use super::parts;
use super::ports;
use super::process::{Service, Watchdog};

/// A PowerDNS server.
pub(crate) struct PowerDns {
    /// Where it answers DNS.
    pub(crate) address: SocketAddr,
    /// Where its HTTP API is.
    pub(crate) api: SocketAddr,
    /// The process.
    pub(crate) service: Service,
    key: String,
}

impl PowerDns {
    /// Starts it in `folder` with these zones, and this key for its API.
    pub(crate) fn start(
        folder: &Path,
        ip: IpAddr,
        zones: &[&str],
        key: &str,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Self, String> {
        let (program, backends) = parts::pdns()?;
        let [dns_port, api_port] = ports::free::<2>(ip)?;
        let (address, api) = (SocketAddr::new(ip, dns_port), SocketAddr::new(ip, api_port));
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let config = format!(
            "launch=lmdb\nmodule-dir={backends}\nlmdb-filename={home}/zones\nlmdb-shards=1\nlmdb-map-size=64\n\
             local-address={ip}\nlocal-port={dns_port}\nsocket-dir={home}\nwrite-pid=no\ndaemon=no\nguardian=no\n\
             api=yes\napi-key={key}\nwebserver=yes\nwebserver-address={ip}\nwebserver-port={api_port}\n\
             webserver-allow-from=127.0.0.0/8\nallow-axfr-ips=127.0.0.0/8\nsecurity-poll-suffix=\n\
             cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\n",
            backends = backends.display(),
            home = folder.display(),
        );
        write_private(&folder.join("pdns.conf"), &config)?;
        let mut command = program.command();
        command.arg(format!("--config-dir={}", folder.display())).current_dir(folder);
        let service = Service::new("PowerDNS", command, &folder.join("log"), watchdog, move || {
            exchange(api, "GET", "/", &[], "").is_ok() && dns::ask(address, "test", "SOA").is_ok()
        })?;
        service.start()?;
        let server = Self { address, api, service, key: key.to_owned() };
        for zone in zones {
            let server_name = format!("ns1.{zone}.");
            let zone = json!({
                "name": format!("{zone}."), "kind": "Native", "nameservers": [server_name],
                "rrsets": [{
                    "name": server_name, "type": "A", "ttl": 60,
                    "records": [{ "content": ip.to_string(), "disabled": false }],
                }],
            });
            server.call("POST", "/zones", &zone)?;
        }
        Ok(server)
    }

    /// Adds a TXT value to a name (with final dot) by the world's own hand.
    pub(crate) fn add(&self, zone: &str, owner: &str, value: &str) -> Result<(), String> {
        let mut values = self.values(owner)?;
        values.push(value.to_owned());
        let records: Vec<Value> = values
            .iter()
            .map(|value| json!({ "content": format!("\"{value}\""), "disabled": false }))
            .collect();
        let set =
            json!({ "name": owner, "type": "TXT", "changetype": "REPLACE", "ttl": 60, "records": records });
        self.call("PATCH", &format!("/zones/{zone}"), &json!({ "rrsets": [set] }))
    }

    /// The TXT values of a name, sorted, by a DNS query.
    pub(crate) fn values(&self, owner: &str) -> Result<Vec<String>, String> {
        let (_, lines) = dns::ask(self.address, owner, "TXT")?;
        let mut values: Vec<String> =
            lines.iter().filter_map(|line| Some(line.split_once(" TXT ")?.1.to_owned())).collect();
        values.sort();
        Ok(values)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<(), String> {
        let headers = [("x-api-key", self.key.as_str())];
        let path = format!("/api/v1/servers/localhost{path}");
        match exchange(self.api, method, &path, &headers, &body.to_string())? {
            (200..=299, _) => Ok(()),
            (status, text) => Err(format!("PowerDNS answers {method} {path} with {status}: {text}")),
        }
    }
}

/// One request by HTTP; the status and the body of the answer.
pub(crate) fn exchange(
    server: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, String), String> {
    let text = |e: std::io::Error| format!("{server}: {e}");
    let mut stream = TcpStream::connect_timeout(&server, DEADLINE).map_err(text)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(text)?;
    // HTTP/1.0: the answer ends with the connection.
    let mut request = format!("{method} {target} HTTP/1.0\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(text)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

const DEADLINE: Duration = Duration::from_secs(5);
