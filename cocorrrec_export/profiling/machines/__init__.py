"""Where a program is run to be measured: this host, and phones behind adb."""
