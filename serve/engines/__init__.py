"""ENGINE: model processes: how they are launched, watched, replaced and spoken to."""
