// In the wheel's build: what OpenCV asks for the functions of OpenGL, which only its cv::ogl uses.
extern "C" void (*glXGetProcAddressARB(const unsigned char* /*name*/))() { return nullptr; }
