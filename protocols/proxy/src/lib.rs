//! Sans-IO PROXY protocol header decoder, versions 1 and 2.
