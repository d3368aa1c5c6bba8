//! Drives the real binary over real sockets, with real child processes.

mod admin;
mod aggregate;
mod bind;
mod catalog;
mod clients;
mod config;
mod faults;
mod front;
mod lifecycle;
mod memory;
mod packages;
mod policy;
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
