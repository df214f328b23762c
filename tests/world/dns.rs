//! Plain DNS messages to one server: queries, zone transfers and signed updates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode, update_message};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};

const DEADLINE: Duration = Duration::from_secs(5);

/// A TSIG key of the kind that certfleet uses: HMAC-SHA-256.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The key's name.
    pub(crate) name: String,
    /// The secret, as bytes.
    pub(crate) secret: Vec<u8>,
}

/// What one server answers: the code in words, such as `No Error`, and the answers as zone file lines.
pub(crate) fn ask(server: SocketAddr, name: &str, kind: &str) -> Result<(String, Vec<String>), String> {
    let mut message = Message::query();
    // Without this BIND does not follow a CNAME into another of its zones.
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(parse(name)?, record_type(kind)?));
    let mut stream = connect(server)?;
    send(&mut stream, &message)?;
    let answer = receive(&mut stream)?;
    Ok((answer.metadata.response_code.to_string(), answer.answers.iter().map(Record::to_string).collect()))
}

/// All records of a zone, by a zone transfer, as zone file lines.
pub(crate) fn transfer(server: SocketAddr, zone: &str) -> Result<Vec<String>, String> {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(parse(zone)?, RecordType::AXFR));
    let mut stream = connect(server)?;
    send(&mut stream, &message)?;
    let mut lines = Vec::new();
    let mut ends = 0;
    // RFC 5936, 2.2: the SOA record comes first and, once more, last.
    while ends < 2 {
        let answer = receive(&mut stream)?;
        let code = answer.metadata.response_code;
        if code != ResponseCode::NoError {
            return Err(format!("{server} refuses the transfer of {zone}: {code}"));
        }
        if answer.answers.is_empty() {
            return Err(format!("{server} sent an empty message for the transfer of {zone}"));
        }
        for record in &answer.answers {
            if record.record_type() == RecordType::SOA {
                ends += 1;
            }
            if ends < 2 {
                lines.push(record.to_string());
            }
        }
    }
    Ok(lines)
}

/// Adds a record, given as a zone file line (`NAME TTL TYPE DATA`), or removes it.
pub(crate) fn update(server: SocketAddr, key: &Key, zone: &str, line: &str, add: bool) -> Result<(), String> {
    let record = parse_record(line)?;
    let zone = parse(zone)?;
    let mut message = if add {
        update_message::append(record.into(), zone, false, false)
    } else {
        update_message::delete_by_rdata(record.into(), zone, false)
    };
    let signer = TSigner::new(key.secret.clone(), TsigAlgorithm::HmacSha256, parse(&key.name)?, 300)
        .map_err(|e| format!("the key {}: {e}", key.name))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| format!("the clock: {e}"))?.as_secs();
    message.finalize(&signer, now).map_err(|e| format!("cannot sign the update: {e}"))?;
    let mut stream = connect(server)?;
    send(&mut stream, &message)?;
    let code = receive(&mut stream)?.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(format!("{server} refuses the update {line:?}: {code}"));
    }
    Ok(())
}

/// Tells a secondary that the zone has changed (RFC 1996).
pub(crate) fn notify(server: SocketAddr, zone: &str) -> Result<(), String> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Notify);
    message.metadata.authoritative = true;
    message.add_query(Query::query(parse(zone)?, RecordType::SOA));
    let mut stream = connect(server)?;
    send(&mut stream, &message)?;
    let code = receive(&mut stream)?.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(format!("{server} refuses the notify for {zone}: {code}"));
    }
    Ok(())
}

fn parse_record(line: &str) -> Result<Record, String> {
    let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "IN").collect();
    let [name, ttl, kind, ..] = words[..] else {
        return Err(format!("{line:?} is not NAME TTL TYPE DATA"));
    };
    let ttl = ttl.parse().map_err(|e| format!("{line:?}: the TTL: {e}"))?;
    let data = words[3..].join(" ");
    let data = RData::try_from_str(record_type(kind)?, &data).map_err(|e| format!("{line:?}: {e}"))?;
    let mut record = Record::from_rdata(parse(name)?, ttl, data);
    record.dns_class = DNSClass::IN;
    Ok(record)
}

fn parse(name: &str) -> Result<Name, String> {
    let mut parsed = Name::from_ascii(name).map_err(|e| format!("{name:?} is no DNS name: {e}"))?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

fn record_type(kind: &str) -> Result<RecordType, String> {
    kind.parse().map_err(|e| format!("{kind:?} is no record type: {e}"))
}

/// TCP only: answers are not cut, and order and source are certain.
fn connect(server: SocketAddr) -> Result<TcpStream, String> {
    let text = |e| format!("name server {server}: {e}");
    let stream = TcpStream::connect_timeout(&server, DEADLINE).map_err(text)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(text)?;
    stream.set_write_timeout(Some(DEADLINE)).map_err(text)?;
    Ok(stream)
}

fn send(stream: &mut TcpStream, message: &Message) -> Result<(), String> {
    let body = message.to_vec().map_err(|e| format!("cannot encode the message: {e}"))?;
    let length = u16::try_from(body.len()).map_err(|e| format!("the message is too long: {e}"))?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(body);
    stream.write_all(&bytes).map_err(|e| format!("cannot send to the name server: {e}"))
}

fn receive(stream: &mut TcpStream) -> Result<Message, String> {
    let text = |e| format!("no answer from the name server: {e}");
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(text)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut body).map_err(text)?;
    Message::from_vec(&body).map_err(|e| format!("cannot decode the answer: {e}"))
}
