mod build;
mod csr;
mod expect;
mod verify;
