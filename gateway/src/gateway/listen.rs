//! Opens the gateway's listeners, for clients and for operators, and starts the work beside them.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use anyhow::Context as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::Gateway;
use super::certify::Certifier;
use super::connections::ConnectionHandler;
use super::health::Health;
use super::renewal_info::RenewalInfo;
use super::usage_counts::keep_counts;
use crate::admin::{
    Access, Admin, AdminState, Data, Live, Moves, OrderSender, Running, ScheduleRow, Service, Timetable, Token,
};
use crate::fleet::Fleet;
use crate::http;
use crate::listener::{self, Addresses, Connections, Offer, Role, Sockets};
use crate::telemetry::{Metrics, Tasks};

/// Pause between two attempts to bind a UDP socket that the previous process still has.
const BIND_AGAIN: Duration = Duration::from_millis(100);

impl Gateway {
    pub(super) async fn listen(
        &mut self,
        metrics: &Arc<Metrics>,
        moves: Moves,
        sockets: &mut Sockets,
    ) -> anyhow::Result<()> {
        let mut offered = Vec::new();
        let connections = Connections::new(self.boot.listen.connections, Arc::clone(metrics));
        let door = ConnectionHandler {
            road: Arc::clone(&self.road),
            terminator: self.terminator.clone(),
            addresses: Addresses::new(self.boot.listen.connections_per_address),
            proxies: self.boot.listen.proxies.clone(),
            challenges: self.acme.as_ref().map(|acme| Arc::clone(&acme.challenges)),
            health: Health::new(self.boot.listen.health.as_deref(), self.started.clone()),
            alternative: None,
        };
        self.serve_clients(&door, &connections, sockets, &mut offered)?;
        let admin = self.boot.listen.admin;
        let listener = sockets.bind(Role::Admin, admin, self.boot.listen.family(admin))?;
        self.admin = listener.local_addr()?;
        offered.push((Role::Admin, listener.as_fd().try_clone_to_owned()?));
        // Separate connections, so that it answers even if the clients' are all in use; and it outlives the start of a
        // drain.
        self.egress.own_listeners([self.https.as_slice(), &self.http, &[self.admin]].concat());
        let store = Arc::clone(&self.store);
        tokio::spawn(keep_counts(Arc::clone(&self.road), Arc::clone(&store)));
        tokio::spawn(Fleet::new(Arc::clone(&store), Arc::clone(&self.registry), Arc::clone(metrics)).talk());
        if let Some(acme) = &self.acme {
            let (road, acme, fallback) = (Arc::clone(&self.road), Arc::clone(acme), Arc::clone(&self.fallback));
            tokio::spawn(
                Certifier {
                    road,
                    acme,
                    fallback,
                    terminator: self.terminator.clone(),
                    store: Arc::clone(&store),
                    suggested: RenewalInfo::default(),
                }
                .keep(),
            );
        }
        let (token, looks_by) = Token::new()?;
        self.operate(listener, moves, token)?;
        let path = self.boot.state.join("takeover.sock");
        let offer = Offer::make(path.clone(), offered).with_context(|| format!("cannot use {}", path.display()))?;
        self.offer = Some(offer);
        self.note_where(looks_by);
        Ok(())
    }

    /// Opens the addresses for clients.
    fn serve_clients(
        &mut self,
        door: &ConnectionHandler,
        connections: &Connections,
        sockets: &mut Sockets,
        offered: &mut Vec<(Role, OwnedFd)>,
    ) -> anyhow::Result<()> {
        for address in &self.boot.listen.https {
            let listener = sockets.bind(Role::Https, *address, self.boot.listen.family(*address))?;
            let address = listener.local_addr()?;
            self.https.push(address);
            offered.push((Role::Https, listener.as_fd().try_clone_to_owned()?));
            let mut door = door.clone();
            if self.boot.listen.quic {
                self.listen_quic(address, door.clone(), connections.clone(), sockets.old.is_some())?;
                let port = self.boot.listen.public_https.unwrap_or(address.port());
                door.alternative = HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok();
            }
            let serve = move |stream, peer| door.clone().https(stream, peer);
            self.tasks.spawn(listener::accept(listener, connections.clone(), self.tasks.clone(), serve));
        }
        let https_port = self.public_https();
        for address in &self.boot.listen.http {
            let listener = sockets.bind(Role::Http, *address, self.boot.listen.family(*address))?;
            self.http.push(listener.local_addr()?);
            offered.push((Role::Http, listener.as_fd().try_clone_to_owned()?));
            let door = door.clone();
            let (connections, tasks) = (connections.clone(), self.tasks.clone());
            if self.boot.listen.is_plain {
                let serve = move |stream, peer| door.clone().plain(stream, peer);
                self.tasks.spawn(listener::accept(listener, connections, tasks, serve));
            } else {
                let serve = move |stream, peer| door.clone().http(stream, peer, https_port);
                self.tasks.spawn(listener::accept(listener, connections, tasks, serve));
            }
        }
        Ok(())
    }

    /// Notes in the state folder where this gateway listens, for commands.
    fn note_where(&self, looks_by: String) {
        let running = Running {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            https: self.https.clone(),
            http: self.http.clone(),
            admin: self.admin,
            socket: self.boot.operators.socket.as_deref().and_then(|socket| std::path::absolute(socket).ok()),
            looks_by: Some(looks_by),
        };
        if let Err(error) = running.write(&self.boot.state) {
            tracing::warn!(target: "admin", %error, "commands cannot find this gateway by themselves; they need --admin");
        }
    }

    /// Answers operators, at their address and at their socket.
    fn operate(&mut self, listener: TcpListener, moves: Moves, beside: Token) -> anyhow::Result<()> {
        let (road, store) = (Arc::clone(&self.road), Arc::clone(&self.store));
        let live = Live::new(Arc::clone(&road), Arc::clone(&self.registry), self.boot.sandbox.instances);
        tokio::spawn(Arc::clone(&live).run());
        let (steering, words) = OrderSender::new(self.started.clone());
        self.words = Some(words);
        let admin = Admin {
            road,
            data: Data { store: Arc::clone(&store), moves },
            store,
            suspension: self.suspension.clone(),
            owners: Arc::clone(&self.owners),
            acme: self.acme.clone(),
            access: self.access(beside)?,
            live,
            steering,
            logs: self.boot.state.join("logs"),
            timetable: self.timetable(),
            desk: AdminState::default(),
        };
        let service = admin.service();
        if let Some(path) = &self.boot.operators.socket {
            let listener = own_socket(path).with_context(|| format!("cannot use {}", path.display()))?;
            tokio::spawn(serve_socket(listener, service.clone(), self.admin_tasks.clone()));
        }
        let connections = Connections::new(OPERATORS_MAX, Arc::new(Metrics::default()));
        let serve = move |stream, peer: SocketAddr| service.clone().serve(stream, peer.to_string());
        tokio::spawn(listener::accept(listener, connections, self.admin_tasks.clone(), serve));
        Ok(())
    }

    /// The schedules for operators.
    fn timetable(&self) -> Timetable {
        let schedules = Arc::clone(&self.schedules);
        Timetable(Box::new(move |of| {
            let rows = schedules.all(of).into_iter().map(|timed| ScheduleRow {
                tenant: timed.tenant.to_string(),
                component: timed.component.to_string(),
                expression: timed.expression.as_str().to_owned(),
                next_ms: timed.next.map(|at| at * 1000),
                is_running: timed.is_running,
                last_ms: timed.last.map(|(at, _)| at * 1000),
                last_outcome: timed.last.map(|(_, outcome)| outcome),
            });
            rows.collect()
        }))
    }

    /// The access rules. `beside` is the token for processes that can read the state folder.
    fn access(&self, beside: Token) -> anyhow::Result<Access> {
        let operators = &self.boot.operators;
        let admin = match &operators.token {
            Some(secret) => Token::of(&secret.0),
            None => {
                let path = self.boot.state.join("admin.token");
                Token::load_or_make(&path).with_context(|| format!("cannot use {}", path.display()))?
            }
        };
        let reader = operators.read_token.as_ref().map(|secret| Token::of(&secret.0));
        Ok(Access { admin, readers: reader.into_iter().chain([beside]).collect() })
    }

    /// HTTP/3 beside a TCP listener. Its socket is not handed over, because both processes would receive datagrams of each
    /// other's connections. A process that takes over gets it when the old one has ended, and clients use TCP until then.
    fn listen_quic(
        &self,
        address: SocketAddr,
        door: ConnectionHandler,
        connections: Connections,
        is_taken: bool,
    ) -> anyhow::Result<()> {
        let mut config = self.terminator.quic();
        config.transport_config(Arc::new(http::transport(&self.boot.http)));
        let (tasks, handshake, drain) = (self.tasks.clone(), self.boot.http.handshake_time, self.boot.listen.drain);
        let limits = (connections, door.addresses.clone());
        let serve = move |connected| door.clone().quic(connected);
        let family = self.boot.listen.family(address);
        let bound = listener::bind_quic(address, family, config.clone());
        if !is_taken {
            let endpoint = bound.with_context(|| format!("cannot listen on {address} for HTTP/3"))?;
            self.tasks.spawn(listener::accept_quic(endpoint, limits, handshake, tasks, serve));
            return Ok(());
        }
        self.tasks.spawn(async move {
            let mut bound = bound;
            let (mut tries, warns_at) = (0, 1 + drain.as_millis() / BIND_AGAIN.as_millis());
            let endpoint = loop {
                match bound {
                    Ok(endpoint) => break endpoint,
                    Err(_in_use) if tasks.is_draining() => return,
                    Err(error) => {
                        tries += 1;
                        if tries == warns_at {
                            tracing::warn!(target: "listener", %address, %error, "HTTP/3 is still not served; the \
                                gateway tries again");
                        }
                        tokio::time::sleep(BIND_AGAIN).await;
                    }
                }
                bound = listener::bind_quic(address, family, config.clone());
            };
            listener::accept_quic(endpoint, limits, handshake, tasks, serve).await;
        });
        Ok(())
    }
}

/// Operators' connections at once.
const OPERATORS_MAX: u32 = 100;

/// A socket for this user alone. It replaces one that an earlier process left.
fn own_socket(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve_socket(listener: UnixListener, service: Service, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(OPERATORS_MAX as usize));
    loop {
        // The semaphore belongs to us and is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _peer)) = listener.accept().await else {
            tokio::time::sleep(BIND_AGAIN).await;
            continue;
        };
        let service = service.clone();
        tasks.spawn(async move {
            service.serve(stream, "unix".to_owned()).await;
            drop(place);
        });
    }
}
