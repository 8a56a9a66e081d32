//! The relay with whole clients, in virtual time: see `world` for what there is, and the other files for what
//! happens there. `ledger` watches over every scenario.

mod agent_goals;
mod agent_lan;
mod agent_matrix;
mod agent_nets;
mod agent_play;
mod agent_relays;
mod agent_safety;
mod agents;
mod attacks;
mod capture;
mod cluster;
mod cluster_instance;
mod cluster_model;
mod endpoints;
mod far_relays;
mod floods;
mod fuzz;
mod hub;
mod ledger;
mod local;
mod measure;
mod nat;
#[path = "../harness/packets.rs"]
mod packets;
mod pairs;
mod recovery;
mod roaming;
mod runs;
mod shares;
mod stun;
mod world;
