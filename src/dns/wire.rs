//! One question to one server, and the framing of DNS over TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::{ProtoError, serialize::binary::DecodeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The question cannot be encoded.
    #[error("the question cannot be encoded")]
    Encode(#[source] ProtoError),
    /// The network says no.
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// What came over TCP is no DNS message.
    #[error("the answer is not a DNS message")]
    Garbled(#[source] DecodeError),
    /// What came over TCP answers something else.
    #[error("the answer is not to our question")]
    Mismatch,
}

/// Asks one server one question: over UDP, again over TCP when the answer does not fit.
///
/// Only an answer from that address, with our id and our question, is taken.
pub(crate) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recursion: bool,
    within: Duration,
) -> Result<Message, AskError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = recursion;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_version(0);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(AskError::Encode)?;
    let exchange = async {
        let answer = by_udp(server, &question, &bytes, within / 2).await?;
        if answer.metadata.truncation { by_tcp(server, &question, &bytes).await } else { Ok(answer) }
    };
    timeout(within, exchange).await.unwrap_or(Err(AskError::Timeout))
}

/// Whether the machine knows a way to an address at all; sends nothing.
pub(crate) async fn has_route(address: SocketAddr) -> bool {
    connected(address).await.is_ok()
}

/// Sends one message with its length before it (RFC 1035 section 4.2.2).
pub(crate) async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a DNS message is at most 65535 octets"))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

/// Receives one message with its length before it: at most 65535 octets, by that length.
pub(crate) async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// A response code by the name that people search for.
pub(crate) fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::YXDomain => "YXDOMAIN".to_owned(),
        ResponseCode::YXRRSet => "YXRRSET".to_owned(),
        ResponseCode::NXRRSet => "NXRRSET".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        ResponseCode::NotZone => "NOTZONE".to_owned(),
        other => format!("response code {}", u16::from(other)),
    }
}

async fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?,
    };
    // From here on the kernel drops what comes from elsewhere.
    socket.connect(server).await?;
    Ok(socket)
}

async fn by_udp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
    resend_after: Duration,
) -> Result<Message, AskError> {
    let socket = connected(server).await?;
    loop {
        socket.send(bytes).await?;
        if let Ok(answer) = timeout(resend_after, matching(&socket, question)).await {
            return answer;
        }
    }
}

/// The first datagram that answers the question; anything else is somebody else's.
async fn matching(socket: &UdpSocket, question: &Message) -> Result<Message, AskError> {
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(question, &answer)
        {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, AskError> {
    let mut stream = TcpStream::connect(server).await?;
    send(&mut stream, bytes).await?;
    let answer = Message::from_vec(&receive(&mut stream).await?).map_err(AskError::Garbled)?;
    if answers(question, &answer) { Ok(answer) } else { Err(AskError::Mismatch) }
}

fn answers(question: &Message, answer: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == OpCode::Query
        // A server that refuses or does not understand may leave the question out.
        && (answer.queries == question.queries
            || (answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError))
}

/// What passes everywhere in one piece (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Room for servers that send more than they were asked to.
const DATAGRAM: usize = 4096;
