//! Page styles, one file each, and the signs of paging that lies.
