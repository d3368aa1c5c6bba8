//! Drives the real binary over real sockets, with real child processes.

mod accounts;
mod admin;
mod aggregate;
mod audit;
mod auth;
mod catalog;
mod clients;
mod faults;
mod front;
mod kills;
mod lifecycle;
mod memory;
mod pool;
mod prefetch;
mod restart;
mod sessions;
mod shipped;
mod spares;
mod stateless;
mod stateless_servers;
mod support;
mod tenants;
mod tune;
