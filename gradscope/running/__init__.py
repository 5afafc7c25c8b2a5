"""`gradscope run`: an unchanged program runs as if Python ran it, and what it trains is watched."""
