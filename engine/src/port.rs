//! A shard's door to one service: the lane there, the lane back, and what waits for room in between.
//!
//! Invariants: per connection the service hears Open, Frames, Close in this order, Close exactly once. Nothing is
//! dropped: opens and closes that find no room wait here, frames are refused before they are decoded
//! (no permit), and their connections wait to be resumed. docs/handoff.md argues why this cannot deadlock.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::Pool;
use crate::builder::ServiceRef;
use crate::close_reason::CloseReason;
use crate::conn::{NO_KEY, State, flag};
use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::handoff::inbox::Doorbell;
use crate::handoff::lane::{self, Consumer, Producer, lane};
use crate::handoff::mailbox;
use crate::handoff::wake::WakeCounts;
use crate::host::{HostMail, ShardLane};
use crate::id::{ConnId, ConnInfo, EndpointId, ShardId};
use crate::limits;
use crate::listing::ServiceFacts;
use crate::service::{Input, Service};

/// What travels from shard to service.
pub(crate) enum ToService<E, O> {
    Input(ConnId, Input<E>),
    /// An answer that found nobody.
    Gone(Box<(ConnId, O)>),
    /// All connections of before the service's restart are forgotten; inputs count again from here.
    Restarted,
}

/// What travels from service to shard.
pub(crate) enum FromService<O> {
    Event(ConnId, O),
    Close(ConnId, CloseReason),
    /// The service panicked and was made anew: close everything that the old one knew.
    Restarted,
    /// The service has said its good-byes: they are all in front of this.
    Drained,
}

/// Where a service is reached: made once, cloned for each shard.
pub(crate) struct ServiceLink<S: Service> {
    pub(crate) mail: mailbox::Sender<HostMail<S>>,
    /// The bell of whoever runs the service, and the number of shard 0's lane there.
    pub(crate) bell: Doorbell,
    pub(crate) first_lane: usize,
    pub(crate) facts: Arc<ServiceFacts>,
}

impl<S: Service> Clone for ServiceLink<S> {
    fn clone(&self) -> Self {
        let ServiceLink { mail, bell, first_lane, facts } = self;
        ServiceLink { mail: mail.clone(), bell: bell.clone(), first_lane: *first_lane, facts: Arc::clone(facts) }
    }
}

/// The shard's ends of the lanes.
type Lanes<S> = (Producer<Inbound<S>>, Consumer<FromService<<S as Service>::Out>>);

/// What travels to a service of this type.
pub(crate) type Inbound<S> = ToService<<S as Service>::In, <S as Service>::Out>;

/// One shard's door to one service.
pub(crate) struct Port<S: Service> {
    shard: ShardId,
    service: ServiceLink<S>,
    /// This shard's bell, and the number under which the service rings it.
    bell: Doorbell,
    number: usize,
    capacity: usize,
    lanes: Option<Lanes<S>>,
    /// Opens and closes that found no room.
    lifecycle: VecDeque<Inbound<S>>,
    /// Answers on their way back that found no room; at most [`limits::GONE_WAITING`].
    gone: VecDeque<Box<(ConnId, S::Out)>>,
    /// Connections that found no permit.
    waiting: VecDeque<ConnId>,
    wakes: WakeCounts,
    permits_refused: u64,
    frames: u64,
    drained: bool,
}

impl<S: Service> Port<S> {
    pub(crate) fn new(
        shard: ShardId,
        service: ServiceLink<S>,
        bell: Doorbell,
        number: usize,
        capacity: usize,
    ) -> Port<S> {
        Port {
            shard,
            service,
            bell,
            number,
            capacity,
            lanes: None,
            lifecycle: VecDeque::new(),
            gone: VecDeque::new(),
            waiting: VecDeque::new(),
            wakes: WakeCounts::default(),
            permits_refused: 0,
            frames: 0,
            drained: false,
        }
    }

    /// Whether new connections should be refused because the service is too far behind.
    pub(crate) fn is_behind(&self) -> bool {
        self.lifecycle.len() >= limits::LIFECYCLE_WAITING
    }

    pub(crate) fn open(&mut self, info: &ConnInfo) {
        self.tell(ToService::Input(info.id, Input::Open(Box::new(*info))));
    }

    pub(crate) fn close(&mut self, conn: ConnId, why: CloseReason) {
        #[cfg(feature = "planted")]
        if why == CloseReason::PeerReset && crate::planted::is(crate::planted::Bug::UntoldClose) {
            return;
        }
        // A restarted service never knew the connection.
        if why != CloseReason::ServicePanic {
            self.tell(ToService::Input(conn, Input::Close(why)));
        }
    }

    /// Sends an answer back that found nobody, behind the connection's close; `false` if too many are on their way.
    fn give_back(&mut self, conn: ConnId, event: S::Out) -> bool {
        let fits = self.gone.len() < limits::GONE_WAITING;
        if fits {
            self.gone.push_back(Box::new((conn, event)));
        }
        fits
    }

    fn tell(&mut self, message: Inbound<S>) {
        let refused = match (&mut self.lanes, self.lifecycle.is_empty()) {
            (Some((to, _)), true) => to.push_reserved(message).err(),
            _ => Some(message),
        };
        self.lifecycle.extend(refused);
    }

    /// Room for one frame. `None` notes that the connection waits for some, unless it `waits` already.
    #[inline]
    pub(crate) fn try_reserve(&mut self, conn: ConnId, waits: bool) -> Option<Permit<'_, S::In, S::Out>> {
        // A frame must not overtake its connection's open.
        if self.lifecycle.is_empty()
            && let Some((to, _)) = &mut self.lanes
            && let Some(permit) = to.try_reserve()
        {
            return Some(Permit { conn, permit, frames: &mut self.frames });
        }
        self.permits_refused += 1;
        if !waits {
            self.waiting.push_back(conn);
        }
        None
    }

    /// Makes the lanes on first use. If the service's mailbox is full the next tick tries again.
    fn attach(&mut self, pool: &mut Pool) {
        if self.lanes.is_some() {
            return;
        }
        let (to, inputs) = lane(self.capacity, limits::LANE_RESERVED.min(self.capacity / 2));
        let (replies, from) = lane(self.capacity, 0);
        let (bell, number) = (self.bell.clone(), self.number);
        let returns = pool.return_lane();
        let lane = ShardLane { inputs, replies, bell, number, returns };
        if let Ok(notified) = self.service.mail.send(HostMail::Attach(self.shard, Box::new(lane))) {
            self.wakes.record(notified);
            self.lanes = Some((to, from));
        }
    }

    /// The tick's end: shows what was pushed, gives back what was popped, and lets those in who waited.
    fn publish(&mut self, core: &mut Core, pool: &mut Pool) {
        if !self.lifecycle.is_empty() {
            self.attach(pool);
        }
        let Some((to, from)) = &mut self.lanes else { return };
        while let Some(message) = self.lifecycle.pop_front() {
            if let Err(message) = to.push_reserved(message) {
                self.lifecycle.push_front(message);
                break;
            }
        }
        // Behind the closes, and never in the room that is theirs.
        if self.lifecycle.is_empty() {
            let room = to.free().min(self.gone.len());
            for back in self.gone.drain(..room) {
                let sent = to.push(ToService::Gone(back)).is_ok();
                debug_assert!(sent, "there was room");
            }
        }
        let published = to.publish();
        if !self.waiting.is_empty() || !self.lifecycle.is_empty() || !self.gone.is_empty() {
            // A failed asking has the service ring when it has made room.
            if to.ask_for_room() && self.lifecycle.is_empty() {
                for _ in 0..to.free().min(self.waiting.len()) {
                    if let Some(slot) = self.waiting.pop_front().and_then(|id| core.find(id)) {
                        let conn = core.conn(slot);
                        conn.clear(flag::NO_PERMIT);
                        conn.set(flag::ROOM);
                        core.resume(slot);
                    }
                }
            }
        }
        if from.release() | published {
            let lane = self.service.first_lane + usize::from(self.shard.0);
            self.wakes.record(self.service.bell.ring(lane));
        }
    }

    /// Whether the next tick should come without sleeping: somebody waits though there is room.
    fn is_idle(&mut self) -> bool {
        let waits = !self.waiting.is_empty() || !self.lifecycle.is_empty() || !self.gone.is_empty();
        !waits || self.lanes.as_mut().is_some_and(|(to, _)| !to.ask_for_room())
    }
}

/// Room for one event on the way to a service. Taken before the event is decoded, so there is nothing to drop.
/// Letting it go gives the room back.
#[must_use = "a permit that is dropped gives its room back"]
pub struct Permit<'a, E, O> {
    conn: ConnId,
    permit: lane::Permit<'a, ToService<E, O>>,
    frames: &'a mut u64,
}

impl<E: Send, O: Send> Permit<'_, E, O> {
    /// Hands the event over. The service sees it when the tick ends.
    #[inline]
    pub fn send(self, event: E) {
        *self.frames += 1;
        self.permit.send(ToService::Input(self.conn, Input::Frame(event)));
    }
}

/// A port without its service's types, for the shard's tick.
pub(crate) trait PortRun {
    /// Takes answers, at most [`limits::ANSWERS_PER_TICK`]; `true` if there are more.
    fn pump(&self, core: &mut Core, endpoints: &mut [Box<dyn Endpoint>]) -> bool;
    fn publish(&self, core: &mut Core, pool: &mut Pool);
    /// The last look before sleeping: nothing waits that could go on.
    fn is_idle(&self) -> bool;
    /// Whether the service behind it has said its good-byes, or never heard of this shard.
    fn is_drained(&self) -> bool;
    fn facts(&self) -> PortFacts;
    /// The port with its types.
    fn any(&self) -> &dyn Any;
}

/// What a port tells the shard's stats.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PortFacts {
    /// Items in both lanes.
    pub(crate) occupancy: usize,
    pub(crate) lifecycle_waiting: usize,
    pub(crate) permits_refused: u64,
    pub(crate) frames: u64,
    pub(crate) wakes: WakeCounts,
}

impl PortFacts {
    pub(crate) fn add(&mut self, other: PortFacts) {
        self.occupancy += other.occupancy;
        self.lifecycle_waiting += other.lifecycle_waiting;
        self.permits_refused += other.permits_refused;
        self.frames += other.frames;
        self.wakes.sent += other.wakes.sent;
        self.wakes.suppressed += other.wakes.suppressed;
    }
}

pub(crate) struct SharedPort<S: Service>(pub(crate) Rc<RefCell<Port<S>>>);

impl<S: Service> PortRun for SharedPort<S> {
    fn pump(&self, core: &mut Core, endpoints: &mut [Box<dyn Endpoint>]) -> bool {
        for _ in 0..limits::ANSWERS_PER_TICK {
            // Borrowed for the pop alone: the handler may want a permit of this very port.
            let answer = match &mut self.0.borrow_mut().lanes {
                Some((_, from)) => from.pop(),
                None => None,
            };
            match answer {
                None => return false,
                Some(FromService::Event(id, event)) => {
                    let undelivered = match core.find(id) {
                        Some(slot) => deliver(core, endpoints, slot, event),
                        None => Some(event),
                    };
                    if let Some(event) = undelivered {
                        core.stats.replies_gone.add(1);
                        if !self.0.borrow_mut().give_back(id, event) {
                            core.stats.replies_lost.add(1);
                        }
                    }
                }
                Some(FromService::Close(id, why)) => {
                    if let Some(slot) = core.find(id) {
                        core.close(slot, why);
                    }
                }
                Some(FromService::Restarted) => self.restarted(core, endpoints),
                Some(FromService::Drained) => self.0.borrow_mut().drained = true,
            }
        }
        true
    }

    fn publish(&self, core: &mut Core, pool: &mut Pool) {
        self.0.borrow_mut().publish(core, pool);
    }

    fn is_idle(&self) -> bool {
        self.0.borrow_mut().is_idle()
    }

    fn is_drained(&self) -> bool {
        let port = self.0.borrow();
        port.drained || port.lanes.is_none()
    }

    fn any(&self) -> &dyn Any {
        self
    }

    fn facts(&self) -> PortFacts {
        let port = &mut *self.0.borrow_mut();
        let occupancy = match &mut port.lanes {
            Some((to, from)) => {
                // Looks across; without that, what the service took since would still count.
                let _ = to.free();
                to.in_use() + from.available()
            }
            None => 0,
        };
        port.service.facts.set_queued(port.shard, occupancy);
        PortFacts {
            occupancy,
            lifecycle_waiting: port.lifecycle.len() + port.gone.len(),
            permits_refused: port.permits_refused,
            frames: port.frames,
            wakes: port.wakes,
        }
    }
}

impl<S: Service> SharedPort<S> {
    /// Closes every connection that the service knew before it panicked.
    fn restarted(&self, core: &mut Core, endpoints: &[Box<dyn Endpoint>]) {
        let number = self.0.borrow().number;
        for slot in 0..core.conns.len() as u32 {
            let conn = core.conn(slot);
            let known = conn.state == State::Open && conn.state_key != NO_KEY;
            let EndpointId(endpoint) = conn.endpoint;
            if known && endpoints[usize::from(endpoint)].port() == Some(number) {
                conn.why = Some(CloseReason::ServicePanic);
                core.mark(slot);
            }
        }
        let mut port = self.0.borrow_mut();
        port.lifecycle.clear();
        port.gone.clear();
        port.tell(ToService::Restarted);
    }
}

/// Gives an event to a connection's handler; back comes what that has no use for: it belongs to another service by now.
fn deliver<O: Send + 'static>(core: &mut Core, endpoints: &mut [Box<dyn Endpoint>], slot: u32, event: O) -> Option<O> {
    let EndpointId(endpoint) = core.conn(slot).endpoint;
    let mut event = Some(event);
    if let Err(why) = endpoints[usize::from(endpoint)].event(core, slot, &mut event as &mut dyn Any) {
        core.close(slot, why);
    }
    event
}

/// A port that endpoints share, and its number.
pub(crate) type NumberedPort<S> = (usize, Rc<RefCell<Port<S>>>);

/// A shard's ports as the making of an endpoint sees them.
pub(crate) struct Doors<'a> {
    pub(crate) ports: &'a mut Vec<Option<Box<dyn PortRun>>>,
    pub(crate) shard: ShardId,
    pub(crate) bell: &'a Doorbell,
    pub(crate) capacity: usize,
}

impl Doors<'_> {
    /// The port to a service, made when its first endpoint asks; endpoints of one service share it.
    pub(crate) fn open<S: Service>(&mut self, service: &ServiceRef<S>) -> Option<NumberedPort<S>> {
        let (number, link) = service.link(self.shard)?;
        if self.ports.len() <= number {
            self.ports.resize_with(number + 1, || None);
        }
        let port = self.ports[number].get_or_insert_with(|| {
            let port = Port::new(self.shard, link, self.bell.clone(), number, self.capacity);
            Box::new(SharedPort(Rc::new(RefCell::new(port))))
        });
        let shared = port.any().downcast_ref::<SharedPort<S>>()?;
        Some((number, Rc::clone(&shared.0)))
    }
}
