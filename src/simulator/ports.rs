//! The ports. A provider's own port can be closed for a while and opened again as the same one:
//! a second socket, bound but never listening, keeps its number meanwhile.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
};

use super::{
    connection::{Door, serve},
    model::ProviderName,
    settings::OwnPorts,
    simulation::Simulation,
};

const BACKLOG: u32 = 1024;

pub(super) struct Ports {
    pub(super) common: SocketAddr,
    pub(super) elsewhere: SocketAddr,
    /// In the order of [`ProviderName::ALL`].
    own: Vec<OwnPort>,
    pub(super) down: watch::Sender<[bool; 3]>,
}

/// The listeners that never close.
pub(super) struct Listeners {
    common: TcpListener,
    elsewhere: TcpListener,
}

struct OwnPort {
    address: SocketAddr,
    /// Keeps the number.
    _holder: TcpSocket,
    listener: Mutex<Option<TcpListener>>,
    opened: Notify,
}

impl Ports {
    pub(super) async fn open(listen: SocketAddr, own: OwnPorts) -> io::Result<(Self, Listeners)> {
        let common = TcpListener::bind(listen).await?;
        let elsewhere = TcpListener::bind(SocketAddr::new(listen.ip(), 0)).await?;
        let mut ports = Vec::new();
        for provider in ProviderName::ALL {
            let place = provider.place() as u16;
            match own {
                OwnPorts::None => {}
                OwnPorts::Picked => ports.push(OwnPort::open(SocketAddr::new(listen.ip(), 0))?),
                OwnPorts::From(first) => {
                    let port = first.checked_add(place).ok_or(io::ErrorKind::InvalidInput)?;
                    ports.push(OwnPort::open(SocketAddr::new(listen.ip(), port))?);
                }
            }
        }
        let ports = Self {
            common: common.local_addr()?,
            elsewhere: elsewhere.local_addr()?,
            own: ports,
            down: watch::Sender::new([false; 3]),
        };
        Ok((ports, Listeners { common, elsewhere }))
    }

    /// Where a provider is to be called.
    pub(super) fn address(&self, provider: ProviderName) -> SocketAddr {
        self.own.get(provider.place()).map_or(self.common, |port| port.address)
    }

    pub(super) fn is_down(&self, provider: ProviderName) -> bool {
        self.down.borrow().get(provider.place()).copied().unwrap_or(false)
    }

    /// Down: its own port refuses connections and its connections are reset; on the common port its
    /// requests are. At once, both ways.
    pub(super) fn set_down(&self, provider: ProviderName, down: bool) -> io::Result<()> {
        if let Some(port) = self.own.get(provider.place()) {
            let mut listener = port.listener();
            match (down, listener.is_some()) {
                (true, _) => *listener = None,
                (false, true) => {}
                (false, false) => {
                    *listener = Some(shared_socket(port.address)?.listen(BACKLOG)?);
                    port.opened.notify_one();
                }
            }
        }
        self.down.send_modify(|all| {
            if let Some(one) = all.get_mut(provider.place()) {
                *one = down;
            }
        });
        Ok(())
    }
}

impl OwnPort {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let holder = shared_socket(address)?;
        let address = holder.local_addr()?;
        let listener = shared_socket(address)?.listen(BACKLOG)?;
        Ok(Self {
            address,
            _holder: holder,
            listener: Mutex::new(Some(listener)),
            opened: Notify::new(),
        })
    }

    fn listener(&self) -> MutexGuard<'_, Option<TcpListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        loop {
            let accepted = poll_fn(|context| match self.listener().as_ref() {
                Some(listener) => listener.poll_accept(context),
                None => Poll::Pending,
            });
            tokio::select! {
                accepted = accepted => return accepted.map(|(stream, _)| stream),
                () = self.opened.notified() => {}
            }
        }
    }
}

fn shared_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts at every door until the simulator stops.
pub(super) fn listen(simulation: &Arc<Simulation>, listeners: Listeners) {
    let Listeners { common, elsewhere } = listeners;
    for (listener, door) in [(common, Door::Common), (elsewhere, Door::Elsewhere)] {
        let host = Arc::clone(simulation);
        simulation.spawn(async move {
            loop {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                welcome(&host, accepted, door).await;
            }
        });
    }
    for provider in ProviderName::ALL {
        let host = Arc::clone(simulation);
        simulation.spawn(async move {
            while let Some(port) = host.ports.own.get(provider.place()) {
                let accepted = port.accept().await;
                welcome(&host, accepted, Door::Own(provider)).await;
            }
        });
    }
}

async fn welcome(simulation: &Arc<Simulation>, accepted: io::Result<TcpStream>, door: Door) {
    match accepted {
        Ok(stream) => {
            let host = Arc::clone(simulation);
            simulation.spawn(serve(host, stream, door));
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
