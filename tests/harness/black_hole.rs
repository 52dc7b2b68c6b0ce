//! An endpoint where nobody answers: a listener whose queue is full, so that the kernel takes no further connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl BlackHole {
    pub async fn start() -> BlackHole {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a loopback address");
        let listener = socket.listen(1).expect("a bound socket");
        let address = listener.local_addr().expect("a bound socket");
        let mut filling = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            filling.push(stream);
        }
        BlackHole {
            address,
            _listener: listener,
            _filling: filling,
        }
    }
}
