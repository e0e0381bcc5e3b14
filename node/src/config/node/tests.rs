//! A node from three layers, and for every bad setting the exact words.
