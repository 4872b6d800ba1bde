//! What a vendor's answer means: the connector's rules first, then the common ones.
