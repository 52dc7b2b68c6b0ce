//! Databases and brokers as applications use them: real servers and their own clients, each in a pod with a sidecar, the
//! packet filter between. Whether the port's protocol is declared or not, and with `maxConnections` in force.

#[path = "databases/mariadb.rs"]
mod mariadb;
#[path = "databases/postgresql.rs"]
mod postgresql;
#[path = "databases/rabbitmq.rs"]
mod rabbitmq;
#[path = "databases/redis.rs"]
mod redis;
#[path = "databases/session.rs"]
mod session;
#[path = "databases/world.rs"]
mod world;
