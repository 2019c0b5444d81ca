"""The command line: what can be asked (`parser`) and what is then called (`commands`)."""
